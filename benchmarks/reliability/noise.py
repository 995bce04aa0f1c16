"""How often studies of pure noise claim fewer false positives.

    python benchmarks/reliability/noise.py --output DIR   # 200 studies, resumable; keeps the rows
    python benchmarks/reliability/noise.py --table        # prints the table of docs/reliability.md

Each study has 60 slides of noise with random labels, in 60 cases. Its arms are trained and evaluated as in
`hardmil evaluate`: 5 folds, and thresholds set inside the training folds. So no arm is better than another,
and each "fewer" or "more" is wrong. Rows are kept in docs/reliability/noise.csv, one for each pair of arms.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.folds import repeated_folds
from hardmil.config.study import StudyConfig
from hardmil.device import find_device
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.evaluation import Evaluation, evaluate_arms, valid_rows
from hardmil.evaluation.trial import operating_settings
from hardmil.files.csv_table import read_table, write_table
from hardmil.statistics.tables import write_statistics

ROWS = Path(__file__).parents[2] / "docs" / "reliability" / "noise.csv"
N_STUDIES, N_BAGS, N_PATCHES, DIM = 200, 60, 10, 16
ARMS = ("ours", "ours+instance", "ours+fmb", "ours+fmb@random", "abmil", "ours-top5", "max")
STUDY = {
    "network": {"embedding_dim": 16},
    "pooling": {"attention_dim": 8},
    "training": {"epochs": 5, "lr": 1e-2},
    "mining": {"n_clusters": 3},
    "evaluation": {"operating_folds": 2},
}
LEVEL = 0.05


@dataclass(frozen=True)
class PairRow:
    """A pair of arms of a study: the rate alone, and the claim."""

    seed: int
    arm: str
    other: str
    fpr: float
    sensitivity: float
    p_holm_of_rate: float
    p_holm_of_claim: float
    verdict: str


def noise(seed: int) -> list[Bag]:
    """Bags of noise, half of them called positive by lot."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(N_BAGS) % 2)
    return [
        Bag(
            f"s{i}",
            f"c{i}",
            int(labels[i]),
            rng.normal(size=(N_PATCHES, DIM)).astype(np.float32),
            np.zeros((N_PATCHES, 2), np.int64),
            0,
        )
        for i in range(N_BAGS)
    ]


def run_study(seed: int, *, folder: Path) -> list[PairRow]:
    """One study; the rows of its pairs of arms."""
    cohort, config = make_cohort(noise(seed)), StudyConfig.model_validate(STUDY)
    evaluation = Evaluation(
        cohort=cohort,
        folds=repeated_folds(cohort.labels, cohort.cases, n_folds=5, n_repeats=1, seed=seed),
        arms=[arm(name, study=config, kind="features") for name in ARMS],
        classes=("normal", "tumour"),
        folder=folder,
        split="case",
        patches="features",
        seed=seed,
        operating=operating_settings(config.evaluation),
    )
    failures = evaluate_arms(evaluation, device=find_device("cpu"), quiet=True)
    if failures:
        raise SystemExit(f"study {seed}: {failures[0].name}: {failures[0].message}")
    found = write_statistics(folder, rows=valid_rows(evaluation), positive="tumour", seed=seed)
    rates = {(one.arm, one.other): one.p_holm for one in found.comparisons if one.metric == "fpr_op"}
    return [
        PairRow(
            seed,
            one.arm,
            one.other,
            one.fpr,
            one.sensitivity,
            rates[one.arm, one.other],
            one.p_holm,
            one.verdict,
        )
        for one in found.claims
    ]


def table(rows: Sequence[PairRow]) -> list[str]:
    """Shares of studies that say anything, by the rate alone and by the joint claim."""
    seeds = sorted({row.seed for row in rows})
    by_rate = {row.seed for row in rows if row.p_holm_of_rate < LEVEL}
    fewer_by_rate = {row.seed for row in rows if row.p_holm_of_rate < LEVEL and row.fpr < 0}
    claimed = {row.seed for row in rows if row.verdict != "not decided"}
    fewer = {row.seed for row in rows if row.verdict == "fewer"}
    fell = [row.sensitivity for row in rows if row.p_holm_of_rate < LEVEL and row.fpr < 0]
    n = len(seeds)
    return [
        f"{n} studies of {N_BAGS} slides, {len(ARMS)} arms, {len(rows) // n} comparisons each.",
        "",
        "| | any difference | fewer false positives |",
        "|---|---|---|",
        f"| FPR at the operating point alone | {len(by_rate)} ({len(by_rate) / n:.1%}) | "
        f"{len(fewer_by_rate)} ({len(fewer_by_rate) / n:.1%}) |",
        f"| FPR and sensitivity together | {len(claimed)} ({len(claimed) / n:.1%}) | "
        f"{len(fewer)} ({len(fewer) / n:.1%}) |",
        "",
        f"Where the rate alone fell, the sensitivity differed by {np.mean(fell):+.2f} on average.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("noise"), help="working folder")
    parser.add_argument("--studies", type=int, default=N_STUDIES, help="number of studies")
    parser.add_argument("--table", action="store_true", help="print the table of the kept rows")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(read_table(ROWS, PairRow))))
        return
    for seed in range(options.studies):
        rows = read_table(ROWS, PairRow)
        if not any(row.seed == seed for row in rows):
            rows += run_study(seed, folder=options.output / str(seed))
            write_table(ROWS, sorted(rows, key=lambda row: row.seed), row=PairRow)
            print(f"study {seed} done", flush=True)


if __name__ == "__main__":
    main()

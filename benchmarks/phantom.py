"""Mining on the synthetic cohort: five seeds of 40 + 40 cases, every arm on the same slides.

    python benchmarks/phantom.py --output DIR  # resumable; minutes per seed
    python benchmarks/phantom.py --table       # print the table of the rows in docs/phantom/

Writes `docs/phantom/results.csv` (a row per seed and arm) and prints the table as Markdown. The network
learns from pixels. The study of `hardmil demo` is another one: benchmarks/demo.py.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.commands.demo import NO_CLEANING
from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.mining import MiningConfig
from hardmil.config.model import NetworkConfig, TrainingConfig
from hardmil.config.patches import PatchConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml
from hardmil.evaluation.cohort import Cohort, study_cohort
from hardmil.evaluation.results import HardNegativeRow, PredictionRow, key_of
from hardmil.evaluation.truth import LOOK_ALIKE, share_of_look_alikes
from hardmil.files.csv_table import read_cells, read_table, write_table
from hardmil.files.geojson import read_regions
from hardmil.metrics import MeanSE, mean_and_se
from hardmil.phantom.cohort import write_cohort
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study, read_bags
from hardmil.report.evaluation_run import evaluate
from hardmil.statistics.summary import SummaryRow

ARMS = ("ours", "ours+fmb", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance")
SEEDS = range(5)
N_TRAIN = N_TEST = 40
ROWS = Path(__file__).parents[1] / "docs" / "phantom" / "results.csv"
NUMBERS = ("auc", "recall", "fpr", "fpr_at_sens_90", "fpr_at_sens_95")


@dataclass(frozen=True)
class SeedRow:
    """An arm on one cohort: a row of docs/phantom/results.csv."""

    seed: int
    arm: str
    auc: float
    recall: float
    fpr: float
    fpr_at_sens_90: float
    fpr_at_sens_95: float
    n_false_positive_bags: int
    n_hard: int
    in_look_alikes: float
    chance_in_look_alikes: float
    fpr_with_look_alikes: float
    fpr_without_look_alikes: float


def pixel_config(seed: int) -> StudyConfig:
    """Small and quick: 12 epochs, at most 64 patches a step, 1 um/px."""
    return StudyConfig(
        seed=seed,
        positive="positive",
        arm="ours",
        patches=PatchConfig(size_px=32, um_per_px=1.0, tissue_rule="s-or-v", tissue=NO_CLEANING),
        network=NetworkConfig(embedding_dim=128),
        training=TrainingConfig(epochs=12, lr=5e-4, max_instances=64),
        mining=MiningConfig(inner_folds=3),
        evaluation=EvaluationConfig(arms=ARMS, splits="."),
    )


def run_seed(folder: Path, *, seed: int) -> list[SeedRow]:
    """Generate one cohort, extract its patches and evaluate the arms; its rows."""
    if not (folder / "slides.csv").exists():
        write_cohort(folder, n_train=N_TRAIN, n_test=N_TEST, seed=seed)
    (folder / FILE_NAME).write_text(commented_yaml(pixel_config(seed)), encoding="utf-8")
    encode_study(open_study(folder))
    evaluate(open_study(folder))
    arms = "evaluation.arms=[ours+fmb-oof, ours+fmb-oof@random]"
    evaluate(open_study(folder, overrides=["mining.retrain=continue", arms]), name="continue")
    return [*rows_of(folder, seed=seed, run="main"), *rows_of(folder, seed=seed, run="continue")]


def rows_of(folder: Path, *, seed: int, run: str) -> list[SeedRow]:
    """A row per arm of a run; arms of a run other than main have its name added."""
    study, tables = open_study(folder), folder / "runs" / run
    cohort = study_cohort(study, bags=read_bags(study, quiet=True).bags)
    mined = read_table(tables / "hard_negatives.csv", HardNegativeRow)
    predictions = read_table(tables / "predictions.csv", PredictionRow)
    by_chance = chance(folder, cohort=cohort)
    rows: list[SeedRow] = []
    for row in read_table(tables / "summary.csv", SummaryRow):
        pool = [one.mined for one in mined if key_of(one).arm == row.arm]
        calls = [one for one in predictions if (key_of(one).arm, one.label) == (row.arm, "negative")]
        rows.append(
            SeedRow(
                seed=seed,
                arm=row.arm if run == "main" else f"{row.arm} ({run})",
                **{name: row.values[name] for name in NUMBERS},
                n_false_positive_bags=row.n_false_positive_bags,
                n_hard=row.n_hard,
                in_look_alikes=share_of_look_alikes(pool, bags=cohort.bags, truth=cohort.truth),
                chance_in_look_alikes=by_chance,
                fpr_with_look_alikes=called_positive(folder, calls, look_alikes=True),
                fpr_without_look_alikes=called_positive(folder, calls, look_alikes=False),
            )
        )
    return rows


def called_positive(folder: Path, calls: Sequence[PredictionRow], *, look_alikes: bool) -> float:
    """Share called positive at 0.5 among the slides with look-alikes, or among those without."""
    here = [
        row.prediction == "positive" for row in calls if has_look_alikes(folder, row.slide_id) == look_alikes
    ]
    return float(np.mean(here))


def has_look_alikes(folder: Path, slide_id: str) -> bool:
    regions = read_regions(folder / "slides" / f"{slide_id}.geojson")
    return any(one.name == "look-alike" for one in regions)


def chance(folder: Path, *, cohort: Cohort) -> float:
    """Share of look-alikes among all patches of negative training slides, as random mining would find."""
    training = {row["train"] for row in read_cells(folder / "splits_0.csv")} - {""}
    negatives = [bag.slide_id for bag in cohort.bags if bag.label == 0 and bag.slide_id in training]
    return float(np.mean(np.concatenate([cohort.truth[name] == LOOK_ALIKE for name in negatives])))


def table(rows: Sequence[SeedRow]) -> list[str]:
    """Markdown: mean ± SE over seeds, then hard minus random, paired by seed."""
    heads = ("AUC", "sensitivity at 0.5", "FPR at 0.5", "FPR at 0.90 sens.", "FPR at 0.95 sens.")
    lines = ["| arm | " + " | ".join((*heads, "mined per seed", "share in look-alikes")) + " |"]
    lines.append("|---" * (len(heads) + 3) + "|")
    for arm in dict.fromkeys(row.arm for row in rows):
        mine = [row for row in rows if row.arm == arm]
        cells = [shown(mean_and_se([getattr(row, name) for row in mine])) for name in NUMBERS]
        cells.append(f"{np.mean([row.n_hard for row in mine]):.0f}")
        cells.append(shown(mean_and_se([row.in_look_alikes for row in mine])))
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    return [*lines, hard_minus_random(rows), hard_minus_random(rows, run=" (continue)")]


def hard_minus_random(rows: Sequence[SeedRow], *, run: str = "") -> str:
    """Row of `ours+fmb-oof` of a run minus its control, paired by seed."""
    arm, of_control = f"ours+fmb-oof{run}", f"ours+fmb-oof@random{run}"
    hard, control = ({r.seed: r for r in rows if r.arm == name} for name in (arm, of_control))
    cells = [
        shown(mean_and_se([getattr(hard[s], name) - getattr(control[s], name) for s in hard]), signed=True)
        for name in NUMBERS
    ]
    return f"| `{arm}`, hard minus random | " + " | ".join([*cells, "", ""]) + " |"


def shown(value: MeanSE, *, signed: bool = False) -> str:
    if np.isnan(value.mean):
        return ""
    sign = "+" if signed else ""
    spread = "" if np.isnan(value.se) else f" ± {value.se:.3f}"
    # Adding 0.0 turns the -0.0 of rounding into 0.0.
    return f"{round(value.mean, 3) + 0.0:{sign}.3f}{spread}"


def notes(rows: Sequence[SeedRow]) -> list[str]:
    """The share of look-alikes by chance, and whether look-alikes fool the base arm."""
    base = [row for row in rows if row.arm == "ours"]
    held, plain, by_chance = (
        float(np.mean([getattr(row, name) for row in base]))
        for name in ("fpr_with_look_alikes", "fpr_without_look_alikes", "chance_in_look_alikes")
    )
    return [
        f"By chance, {by_chance:.3f} of the patches of negative slides are in look-alikes. FPR of `ours`: "
        f"{held:.3f} on negative slides with look-alikes, {plain:.3f} on those without."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("phantom-study"), help="folder of the studies")
    parser.add_argument("--table", action="store_true", help="only print the table of the existing rows")
    options = parser.parse_args()
    if not options.table:
        rows: list[SeedRow] = []
        for seed in SEEDS:
            rows += run_seed(options.output / f"seed-{seed}", seed=seed)
            write_table(ROWS, rows, row=SeedRow)
    found = read_table(ROWS, SeedRow)
    print("\n".join(table(found)))
    print("\n" + "\n".join(notes(found)))


if __name__ == "__main__":
    main()

"""What `hardmil demo` shows, over several seeds: every arm of the demo on separate cohorts.

    python benchmarks/demo.py --output DIR          # every arm; resumes after the last complete seed
    python benchmarks/demo.py --output DIR --check  # the base arm alone, on seeds without kept rows
    python benchmarks/demo.py --table               # print the tables of the rows in docs/phantom/

Runs the command itself with each seed and writes `docs/phantom/demo.csv`, a row per seed and arm.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.commands.demo import ARMS, demo, write_demo_study
from hardmil.evaluation.cohort import study_cohort
from hardmil.evaluation.results import PredictionRow, key_of
from hardmil.files.csv_table import read_table, write_table
from hardmil.metrics import mean_and_se
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study, read_bags
from hardmil.report.evaluation_run import evaluate
from hardmil.statistics.comparisons import usual_pairs
from hardmil.statistics.summary import SummaryRow
from phantom import chance, has_look_alikes, shown

BASE = "ours"
SEEDS = range(6)
CHECK_SEEDS = (100, 101)
ROWS = Path(__file__).parents[1] / "docs" / "phantom" / "demo.csv"
NUMBERS = {
    "auc": "AUC",
    "fpr_op": "FPR at the operating point",
    "sens_op": "sensitivity there",
    "fpr_with_look_alikes": "FPR, look-alikes",
    "fpr_without_look_alikes": "FPR, no look-alikes",
    "fpr_at_sens_90": "FPR at 0.90 sens.",
}

COMPARED = ("auc", "fpr_op", "sens_op", "fpr_at_sens_90")


@dataclass(frozen=True)
class DemoRow:
    """An arm on one cohort: a row of docs/phantom/demo.csv. Both last rates are at the operating point."""

    seed: int
    arm: str
    auc: float
    fpr_op: float
    sens_op: float
    fpr_at_sens_90: float
    n_false_positive_bags: int
    n_hard: int
    in_look_alikes: float
    chance_in_look_alikes: float
    fpr_with_look_alikes: float
    fpr_without_look_alikes: float


def rows_of(folder: Path, *, seed: int, run: str = "demo") -> list[DemoRow]:
    """A row per arm of a run of the demo in this folder."""
    study, tables = open_study(folder), folder / "runs" / run
    cohort = study_cohort(study, bags=read_bags(study, quiet=True).bags)
    by_chance = chance(folder, cohort=cohort)
    predictions = read_table(tables / "predictions.csv", PredictionRow)
    rows: list[DemoRow] = []
    for row in read_table(tables / "summary.csv", SummaryRow):
        calls = {
            one.slide_id: one.op_prediction == "positive"
            for one in predictions
            if (key_of(one).arm, one.label) == (row.arm, "negative")
        }
        rows.append(
            DemoRow(
                seed=seed,
                arm=row.arm,
                auc=row.values["pooled_auc"],
                fpr_op=row.values["fpr_op"],
                sens_op=row.values["sens_op"],
                fpr_at_sens_90=row.values["fpr_at_sens_90"],
                n_false_positive_bags=row.n_false_positive_bags,
                n_hard=row.n_hard,
                in_look_alikes=row.values["mined_look_alikes"],
                chance_in_look_alikes=by_chance,
                fpr_with_look_alikes=called(folder, calls, look_alikes=True),
                fpr_without_look_alikes=called(folder, calls, look_alikes=False),
            )
        )
    return rows


def called(folder: Path, calls: Mapping[str, bool], *, look_alikes: bool) -> float:
    """Share called positive among the slides with look-alikes, or among those without."""
    return float(
        np.mean([call for name, call in calls.items() if has_look_alikes(folder, name) == look_alikes])
    )


def by_arm(rows: Sequence[DemoRow]) -> dict[str, dict[int, DemoRow]]:
    """Rows by arm and seed, in the order of the arms of the demo."""
    return {arm: {row.seed: row for row in rows if row.arm == arm} for arm in ARMS}


def table(rows: Sequence[DemoRow]) -> list[str]:
    """Markdown: mean ± SE over the seeds of each arm."""
    lines = _head("arm", *NUMBERS.values(), "mined per seed", "share in look-alikes")
    for arm, found in by_arm(rows).items():
        cells = [shown(mean_and_se([getattr(row, name) for row in found.values()])) for name in NUMBERS]
        mined = f"{np.mean([row.n_hard for row in found.values()]):.0f}"
        look_alikes = shown(mean_and_se([row.in_look_alikes for row in found.values()]))
        lines.append(_line(f"`{arm}`", *cells, mined, look_alikes))
    return lines


def differences(rows: Sequence[DemoRow]) -> list[str]:
    """Markdown: each arm minus its base, and minus its control, paired by seed."""
    found = by_arm(rows)
    lines = _head("difference", *(NUMBERS[name] for name in COMPARED), "seeds with lower, same, higher FPR")
    for arm, other in usual_pairs(ARMS):
        pairs = [(found[arm][seed], found[other][seed]) for seed in sorted(found[arm])]
        cells = [
            shown(mean_and_se([getattr(a, name) - getattr(b, name) for a, b in pairs]), signed=True)
            for name in COMPARED
        ]
        signs = [int(np.sign(round(a.fpr_op - b.fpr_op, 9))) for a, b in pairs]
        counts = ", ".join(str(signs.count(sign)) for sign in (-1, 0, 1))
        lines.append(_line(f"`{arm}` minus `{other}`", *cells, counts))
    return lines


def _head(*names: str) -> list[str]:
    return [_line(*names), "|---" * len(names) + "|"]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def notes(rows: Sequence[DemoRow]) -> list[str]:
    by_chance = np.mean([row.chance_in_look_alikes for row in rows])
    return [f"By chance, {by_chance:.3f} of the patches of negative training slides are in look-alikes."]


def run_all(output: Path) -> None:
    """Run every seed without rows, one after the other."""
    for seed in SEEDS:
        kept = read_table(ROWS, DemoRow)
        if {row.arm for row in kept if row.seed == seed} >= set(ARMS):
            continue
        folder = output / f"seed-{seed}"
        demo(folder, seed=seed, quiet=True)
        others = [row for row in kept if row.seed != seed]
        write_table(ROWS, [*others, *rows_of(folder, seed=seed)], row=DemoRow)


def check(output: Path) -> None:
    """Print the base arm on seeds without kept rows: are lesions found, and do look-alikes mislead it?"""
    for seed in CHECK_SEEDS:
        folder = output / f"seed-{seed}"
        write_demo_study(folder, seed=seed, quiet=True)
        encode_study(open_study(folder))
        evaluate(open_study(folder, overrides=[f"evaluation.arms=[{BASE}]"]), name="check", quiet=True)
        print(*rows_of(folder, seed=seed, run="check"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("demo-seeds"), help="folder of the studies")
    parser.add_argument("--check", action="store_true", help="the base arm alone, on separate seeds")
    parser.add_argument("--table", action="store_true", help="only print the tables of the existing rows")
    options = parser.parse_args()
    if options.check:
        return check(options.output)
    if not options.table:
        run_all(options.output)
    rows = read_table(ROWS, DemoRow)
    print("\n".join([*table(rows), "", *differences(rows), "", *notes(rows)]))


if __name__ == "__main__":
    main()

"""The methods of others and ours on equal terms: the same features, folds, optimiser, epochs and threshold.

    python benchmarks/comparison.py --data DIR --output DIR --run colon ucsb glas   # resumable
    python benchmarks/comparison.py --output DIR --run foci    # synthetic slides with rare foci
    python benchmarks/comparison.py --cost                     # training time of each arm, in one run
    python benchmarks/comparison.py --table                    # prints the tables of docs/comparison.md

Rows of the real sets are with those of the other arms in docs/false-positives, all others in docs/comparison.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from false_positive_runs import KEPT, SETS, Where, keep, run_set
from false_positive_tables import BASE, TITLES, SetRows, combined, combined_table, read_set
from rare_foci import RESULTS as FOCI_RESULTS
from rare_foci import SeedRow, rows_of, run_seed, shown
from training_cost import CostRow, measure_cost

from hardmil.commands.arms_table import short
from hardmil.files.csv_table import read_table, write_table
from hardmil.jobs.pool import find_engine
from hardmil.metrics import MeanSE, mean_and_se

OTHERS = ("clam-sb", "clam-mb", "dtfd", "dsmil", "transmil", "abmil-mhim", "abmil-psemix")
OURS = ("auto", BASE, "ours-top5", "ours+instance")
ORDER = (*OURS, "abmil", "topk", *OTHERS)
COSTED = tuple(name for name in ORDER if name not in ("auto", "ours-top5"))
REPEATS = 1
FOCI_SEEDS = range(3)
FOLDER = Path(__file__).parents[1] / "docs" / "comparison"
FOCI, COST = FOLDER / "foci.csv", FOLDER / "cost.csv"
CELLS = ("fpr_op", "sens_op", "pooled_auc", "fpr_at_sens_90", "brier")
HEADS = ("arm", "FPR @op", "sensitivity @op", "AUC", "FPR @90", "Brier")
FOCI_CELLS = ("fpr_at_sens_90", "fpr_at_sens_95", "auc", "instance_auc")
FOCI_HEADS = ("arm", "FPR @90", "FPR @95", "AUC", "instance AUC", "seeds")


def run_foci(output: Path) -> None:
    """Run the methods of others where lesions are rare and small; rows of `ours` are those kept before."""
    for seed in FOCI_SEEDS:
        kept = read_table(FOCI, SeedRow)
        missing = [name for name in OTHERS if not any((row.seed, row.arm) == (seed, name) for row in kept)]
        if missing:
            folder = output / f"seed-{seed}"
            run_seed(folder, seed=seed, arms=missing)
            rows = [*kept, *(row for row in rows_of(folder, seed=seed) if row.arm in missing)]
            write_table(FOCI, sorted(rows, key=lambda row: (ORDER.index(row.arm), row.seed)), row=SeedRow)


def tables() -> list[str]:
    """All tables, from the kept rows."""
    sets = [found for name in SETS if (found := read_set(KEPT / name, name=name, repeats=REPEATS))]
    lines: list[str] = []
    for rows in sets:
        lines += [f"### {TITLES[rows.name]}", "", *_set_table(rows), ""]
    together = [one for one in combined(sets, order=ORDER) if one.n_sets == len(sets)]
    lines += ["### All real sets: each arm minus `ours`", "", *combined_table(together), ""]
    foci = [*read_table(FOCI_RESULTS, SeedRow), *read_table(FOCI, SeedRow)]
    found = _foci_table([row for row in foci if row.seed in FOCI_SEEDS])
    lines += ["### Synthetic slides with rare foci", "", *found, ""]
    costs = read_table(COST, CostRow)
    return [*lines, "### Training time", "", *_cost_table(costs)]


def _set_table(rows: SetRows) -> list[str]:
    lines = [_line(HEADS), _line(["---"] * len(HEADS))]
    for name in ORDER:
        if name in rows.arms:
            limits = [rows.limits[name, metric] for metric in CELLS]
            cells = [f"{short(one.value)} [{short(one.low)}, {short(one.high)}]" for one in limits]
            lines.append(_line([f"`{name}`", *cells]))
    return lines


def _foci_table(rows: Sequence[SeedRow]) -> list[str]:
    lines = [_line(FOCI_HEADS), _line(["---"] * len(FOCI_HEADS))]
    for name in ORDER:
        own = [row for row in rows if row.arm == name]
        if own:
            cells = [shown(_over(own, metric)) for metric in FOCI_CELLS]
            lines.append(_line([f"`{name}`", *cells, str(len(own))]))
    return lines


def _over(rows: Iterable[SeedRow], metric: str) -> MeanSE:
    return mean_and_se([float(getattr(row, metric)) for row in rows])


def _cost_table(rows: Sequence[CostRow]) -> list[str]:
    lines = [_line(["arm", "time of `ours`"]), _line(["---", "---"])]
    return [*lines, *(_line([f"`{row.arm}`", f"{row.ratio:.2f}"]) for row in rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="working folder")
    parser.add_argument("--run", choices=(*SETS, "foci"), nargs="+", default=[], help="sets to run")
    parser.add_argument("--arms", nargs="+", default=list(OTHERS), help="arms to run on the real sets")
    parser.add_argument("--cost", action="store_true", help="measure the training time of each arm")
    parser.add_argument("--table", action="store_true", help="print the tables of the kept rows")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    if options.data is None and set(options.run) & set(SETS):
        parser.error("the real sets need --data")
    where = Where(
        options.data, options.output, find_engine(workers=options.workers, population=None), REPEATS
    )
    for name in options.run:
        if name == "foci":
            run_foci(options.output / "foci")
        else:
            keep(run_set(name, arms=options.arms, where=where), to=KEPT / name)
    if options.cost:
        write_table(COST, measure_cost(COSTED), row=CostRow)
    if options.table:
        print("\n".join(tables()))


if __name__ == "__main__":
    main()

"""Run the comparison of arms by false positives, keep its rows, and write the tables of docs/false-positives.

    python benchmarks/false_positives.py --data DIR --output DIR --run colon     # resumable
    python benchmarks/false_positives.py --data DIR --output DIR --criteria      # how auto may choose
    python benchmarks/false_positives.py --table                                 # tables and figure

The protocol is docs/decisions/0013-false-positive-protocol.md. Rows are kept in docs/false-positives/<set>/.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from false_positive_runs import AUTO, CANDIDATES, CRITERIA, KEPT, SETS, Where, keep, run_set

from hardmil.jobs.pool import find_engine


def run(names: Sequence[str], *, arms: Sequence[str], where: Where) -> None:
    """Run arms on some sets, and keep their rows set by set."""
    for name in names:
        keep(run_set(name, arms=arms, where=where), to=KEPT / name)


def run_criteria(where: Where) -> None:
    """Let `auto` choose by each criterion on the set that chooses; networks are trained once."""
    for criterion, overrides in CRITERIA.items():
        folder = run_set("colon", arms=(AUTO,), where=where, overrides=overrides)
        keep(folder, to=KEPT / "criteria" / criterion, only=AUTO)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=Path("false-positives"), help="working folder")
    parser.add_argument("--run", choices=SETS, nargs="+", help="sets to run")
    parser.add_argument("--arms", nargs="+", default=[*CANDIDATES, AUTO], help="arms to run")
    parser.add_argument("--criteria", action="store_true", help="compare the criteria of auto")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    if (options.run or options.criteria) and options.data is None:
        parser.error("--run and --criteria need --data")
    where = Where(options.data, options.output, find_engine(workers=options.workers, population=None))
    if options.run:
        run(options.run, arms=options.arms, where=where)
    if options.criteria:
        run_criteria(where)


if __name__ == "__main__":
    main()

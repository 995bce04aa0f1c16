"""Run the experiments behind docs/reproduction.md, keep their rows, and write the tables.

    python benchmarks/reproduction.py --data DIR --output DIR --run frozen  # resumable; takes hours
    python benchmarks/reproduction.py --output DIR --collect                # add rows of DIR to the kept rows
    python benchmarks/reproduction.py --table                               # write tables of the kept rows
    python benchmarks/reproduction.py --data DIR --pack FOLDER              # the sets, to carry elsewhere

Rows are kept in docs/reproduction/{colon,ucsb}/, tables in docs/reproduction/{colon,ucsb}.md. A run starts
from the kept rows: trials with the same config hash are not run again. Repeats run one after the other, so
an interrupted run still has complete repeats. `--data` holds the colon set and the UCSB set, each in its own
folder in its original layout, or is what `--pack` wrote.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reproduction_runs import (
    KEPT,
    RUNS,
    VERDICTS,
    WITHOUT_VERDICTS,
    Experiment,
    Where,
    collect,
    is_curve,
    pack,
    run_missing,
)

from hardmil.commands.arms_table import HEADINGS, SHOWN, cell, difference_cell, mined_cell, short
from hardmil.evaluation.results import PredictionRow, ResultRow, key_of
from hardmil.files.csv_table import read_table
from hardmil.jobs.pool import find_engine
from hardmil.metrics import MeanSE
from hardmil.paper.reproduction import FOLDS
from hardmil.paper.tables import PAPER, Published
from hardmil.statistics.cautions import FIXED_SENSITIVITY, few_cases_notes
from hardmil.statistics.comparisons import (
    Comparison,
    by_pair,
    compare,
    compare_arms,
    holm_corrected,
    not_comparable,
)
from hardmil.statistics.intervals import Interval, intervals, resample_arms
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import ArmSummary, summarise

COMMAND = "python benchmarks/reproduction.py --table"
TITLES = {"colon": "Colon (CRCHistoPhenotypes)", "ucsb": "UCSB breast"}
POSITIVE = {"colon": "epithelial", "ucsb": "malignant"}
RATES = {"fpr_at_sens_90": "FPR@90", "fpr_at_sens_95": "FPR@95"}


@dataclass(frozen=True)
class Setting:
    """Summary of all rows of one data set, one split and one way of making instances."""

    data: str
    split: str
    patches: str
    part: str
    arms: Sequence[ArmSummary]
    intervals: Sequence[Interval]
    comparisons: Sequence[Comparison]


def settings() -> list[Setting]:
    """Summaries of the kept rows, one for each setting."""
    found: list[Setting] = []
    for data in ("colon", "ucsb"):
        results, predictions = _kept(data)
        for split, patches in sorted({(row.trial.split, row.trial.patches) for row in results}):
            here = [row for row in results if (row.trial.split, row.trial.patches) == (split, patches)]
            here = [row for row in here if "+verdicts" not in row.trial.arm]
            n_rows, here = len(here), _whole_repeats(here, n_folds=FOLDS[data])
            if not here:
                print(f"{data}, {split}, {patches}: {n_rows} trials, no complete repeat yet, not shown")
            for part, rows in _parts(here).items():
                trials = {row.trial for row in rows}
                said = [row for row in predictions if row.trial in trials]
                found.append(_setting(data, part, results=rows, predictions=said))
    return found


def _kept(data: str) -> tuple[list[ResultRow], list[PredictionRow]]:
    folder = KEPT / data
    results = read_table(folder / "results.csv", ResultRow)
    return results, read_table(folder / "predictions.csv", PredictionRow)


def _parts(results: list[ResultRow]) -> dict[str, list[ResultRow]]:
    """Arms with the most repeats; then, if other arms have fewer, all arms on the first repeat.

    Only arms with the same repeats can be compared.
    """
    n_rows = Counter(row.trial.arm for row in results)
    often = {arm for arm, n in n_rows.items() if n == max(n_rows.values())}
    if len(often) == len(n_rows):
        return {"": results} if results else {}
    whole = [row for row in results if row.trial.arm in often]
    return {"": whole, "all arms on the first repeat": [row for row in results if row.trial.repeat == 0]}


def _whole_repeats(results: list[ResultRow], *, n_folds: int) -> list[ResultRow]:
    """The rows of complete repeats: those for which the arm has all folds."""
    counts = Counter((row.trial.arm, row.trial.repeat) for row in results)
    return [row for row in results if counts[row.trial.arm, row.trial.repeat] == n_folds]


def verdict_curve() -> list[str]:
    """Table of the verdict arms against `ours+instance`, on the one repeat they were run on."""
    results, predictions = _kept("colon")
    results = [row for row in results if is_curve(row.trial)]
    names = [
        arm
        for arm in (WITHOUT_VERDICTS, *VERDICTS)
        if sum(row.trial.arm == arm for row in results) == FOLDS["colon"]
    ]
    if len(names) < 2:
        return []
    results = [row for row in results if row.trial.arm in names]
    said = [row for row in predictions if is_curve(key_of(row)) and key_of(row).arm in names]
    summary = {one.arm: one for one in summarise(results, predictions=said, positive=POSITIVE["colon"])}
    drawn = resample_arms(pool_predictions(said, positive=POSITIVE["colon"]), seed=0)
    resampled = {one.key[0]: one for one in drawn}
    judged = [name for name in names if name != WITHOUT_VERDICTS]
    found = holm_corrected(
        one for name in judged for one in compare(resampled[name], resampled[WITHOUT_VERDICTS])
    )
    minus = {(one.arm, one.metric): difference_cell(one) for one in found}
    shown = {"pooled_auc": "AUC (pooled)", "pooled_accuracy": "accuracy at 0.5", **RATES}
    rows = [
        [
            f"`{name}`",
            *(cell(summary[name].values[metric]) for metric in shown),
            *(minus.get((name, metric), "") for metric in RATES),
        ]
        for name in names
    ]
    heads = ["arm", *shown.values(), *(f"{head}, minus no verdicts" for head in RATES.values())]
    return [
        "### colon, split by group: verdicts, one repeat of 10 folds",
        "",
        FIXED_SENSITIVITY,
        "",
        *_table(heads, rows),
        "",
    ]


def _setting(data: str, part: str, *, results: list[ResultRow], predictions: list[PredictionRow]) -> Setting:
    resampled = resample_arms(pool_predictions(predictions, positive=POSITIVE[data]), seed=0)
    split, patches = results[0].trial.split, results[0].trial.patches
    for arm, other in not_comparable(resampled):
        print(f"{data}, {split}, {patches}: {arm} and {other} have different repeats, not compared")
    return Setting(
        data,
        split,
        patches,
        part,
        summarise(results, predictions=predictions, positive=POSITIVE[data]),
        intervals(resampled),
        compare_arms(resampled),
    )


def markdown(setting: Setting) -> list[str]:
    """The tables of one setting: our arms with the published rows, then differences."""
    n_trials = max(one.n_trials for one in setting.arms)
    title = [setting.data, f"split by {setting.split}", setting.patches, *filter(None, [setting.part])]
    lines = [
        f"### {', '.join(title)}",
        "",
        f"At most {n_trials} trials an arm.",
        "",
        *(line for note in few_cases_notes(setting.intervals) for line in (f"**{note}**", "")),
        *_table(["arm", *HEADINGS.values(), "instance AUC", "trials", "mined"], _arm_rows(setting)),
    ]
    differences = _difference_rows(setting.comparisons)
    if differences:
        lines += ["", FIXED_SENSITIVITY, "", *_table(["arm minus other", *SHOWN.values()], differences)]
    return [*lines, ""]


def write_tables(data: str, lines: Sequence[str]) -> None:
    """Write the tables of one data set to docs/reproduction/<data>.md."""
    head = [
        f"<!-- Generated by `{COMMAND}`; do not edit. -->",
        "",
        f"# {TITLES[data]}: all tables",
        "",
        f"Generated by `{COMMAND}` from the rows in [{data}/]({data}/).",
        "What the columns mean, and the findings: [reproduction.md](../reproduction.md).",
        "",
    ]
    (KEPT / f"{data}.md").write_text("\n".join([*head, *lines]), encoding="utf-8")


def _arm_rows(setting: Setting) -> list[list[str]]:
    limits = {(one.arm, one.metric): one for one in setting.intervals}
    rows: list[list[str]] = []
    for one in setting.arms:
        cells = [cell(one.values[name]) + _limits(limits.get((one.arm, name))) for name in HEADINGS]
        rows.append(
            [f"`{one.arm}`", *cells, cell(one.values["instance_auc"]), str(one.n_trials), mined_cell(one)]
        )
        if one.arm in PAPER[setting.data]:
            paper = PAPER[setting.data][one.arm]
            rows.append(["*paper*", *(_published(paper.get(name)) for name in HEADINGS), "", "", ""])
    return rows


def _limits(interval: Interval | None) -> str:
    """Intervals of the two rates of interest only; more would make the table hard to read."""
    if interval is None or interval.metric not in ("fpr_op", "fpr_at_sens_90") or math.isnan(interval.low):
        return ""
    return f" [{short(interval.low)}, {short(interval.high)}]"


def _difference_rows(comparisons: Iterable[Comparison]) -> list[list[str]]:
    return [
        [f"`{arm}` minus `{other}`", *(difference_cell(found[name]) for name in SHOWN)]
        for (arm, other, *_), found in by_pair(comparisons).items()
    ]


def _published(value: Published | None) -> str:
    return "" if value is None else f"*{cell(MeanSE(value.mean, value.se or math.nan, 1, 0))}*"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def _wanted(options: argparse.Namespace) -> list[Experiment]:
    """The experiments of a run, or the part of them that the options name."""
    experiments = [
        one
        for one in RUNS[options.run]
        if options.split in (None, one.split) and options.data_set in (None, one.data)
    ]
    if options.arms is None:
        return experiments
    names = options.arms.split(",")
    limited = (replace(one, arms=[arm for arm in one.arms if arm in names]) for one in experiments)
    return [one for one in limited if one.arms]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder that holds both data sets")
    parser.add_argument("--output", type=Path, default=Path("reproduction"), help="working folder")
    parser.add_argument("--run", "--sitting", choices=RUNS, help="which experiments to run")
    parser.add_argument("--split", choices=("group", "image"), help="only experiments with this split")
    parser.add_argument("--data-set", choices=TITLES, help="only experiments on this set")
    parser.add_argument("--arms", help="only these arms, separated by commas")
    parser.add_argument("--collect", action="store_true", help="add the rows in --output to the kept rows")
    parser.add_argument("--table", action="store_true", help="write docs/reproduction/colon.md and ucsb.md")
    parser.add_argument(
        "--pack", type=Path, metavar="FOLDER", help="write the sets as files to carry elsewhere"
    )
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--population", type=int, help="networks that train at once")
    parser.add_argument("--repeats-at-once", action="store_true", help="not one repeat after the other")
    parser.add_argument("--trial", action="store_true", help="2 folds and 1 epoch; keeps no rows")
    options = parser.parse_args()
    if (options.run or options.pack) and options.data is None:
        parser.error("--run and --pack need --data")
    if options.pack:
        pack(options.data, to=options.pack)
    if options.run:
        experiments = _wanted(options)
        if not experiments:
            parser.error(f"--run {options.run} has no such experiment")
        engine = find_engine(workers=options.workers, population=options.population)
        where = Where(
            options.data, options.output, options.device, engine, options.repeats_at_once, options.trial
        )
        run_missing(experiments, where)
    if options.collect:
        for folder in (path for path in options.output.iterdir() if (path / "results.csv").exists()):
            collect(folder, to=KEPT / folder.name)
    if options.table:
        tables: dict[str, list[str]] = {data: [] for data in TITLES}
        for setting in settings():
            tables[setting.data] += markdown(setting)
        tables["colon"] += verdict_curve()
        for data, lines in tables.items():
            write_tables(data, lines)


if __name__ == "__main__":
    main()

"""Many classes: what each arm reaches on three synthetic classes and on four classes of the colon set.

    python benchmarks/many_classes.py --data DIR --output DIR   # resumable; keeps the rows
    python benchmarks/many_classes.py --table                   # prints the tables of docs/many-classes.md

Three classes: the slides of `hardmil demo --classes 3`, three seeds. Colon: each image is of the kind of
nucleus that it has most of; frozen efficientnet-lite0, folds by group. Two classes: the networks of `ours` on
the colon set, trained as two classes and as many. Rows are in docs/many-classes/.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from reproduction_runs import FOLDERS, LITE0

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import write_bag
from hardmil.bags.folds import repeated_folds
from hardmil.commands.demo import write_demo_study
from hardmil.config.model import resolve_config
from hardmil.config.study import model_config
from hardmil.config.study_file import FILE_NAME
from hardmil.config.task import MACRO, TWO_CLASSES, TaskConfig
from hardmil.encoders.open_encoder import open_encoder
from hardmil.evaluation.results import HARD_NEGATIVES, HardNegativeRow
from hardmil.files.csv_table import read_table, write_table
from hardmil.jobs.pool import find_engine
from hardmil.metrics import binary_metrics, mean_and_se
from hardmil.mil.inference import score_bags
from hardmil.mil.training import fit
from hardmil.paper.colon import NUCLEI, colon_nuclei
from hardmil.paper.datasets import published_config, read_published
from hardmil.preprocessing.process_slides import RunOptions
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import open_study
from hardmil.preprocessing.study_patching import patch_study
from hardmil.report.evaluation_run import evaluate
from hardmil.statistics.comparisons import Comparison
from hardmil.statistics.intervals import Interval
from hardmil.words import count

KEPT = Path(__file__).parents[1] / "docs" / "many-classes"
SETS = {"synthetic": "Three synthetic classes", "colon": "Four kinds of nuclei, colon by group"}
SEEDS = range(3)
ARMS = (
    *("ours", "abmil", "ours+instance"),
    *("ours+fmb-oof", "ours+fmb-oof@random", "ours+inject-oof", "ours+inject-oof@random"),
)
# Without a negative class, no hard bag can be made.
COLON_ARMS = ("ours", "ours+inject-oof", "ours+inject-oof@random")
MINING_ARM = "ours+inject-oof"
METRICS = {
    "pooled_accuracy": "accuracy",
    "pooled_auc": "AUC",
    "fpr_op": "FPR @op",
    "sens_op": "sensitivity @op",
}
COLON_STUDY = f"""\
features: features
classes: [{", ".join(NUCLEI)}]
evaluation: {{folds: 4, arms: [{", ".join(COLON_ARMS)}]}}
"""


@dataclass(frozen=True)
class ClassRow:
    """A number of one arm for one class, or MACRO: a row of docs/many-classes/results.csv."""

    data: str
    seed: int
    arm: str
    class_name: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DifferenceRow:
    """Arm minus other, MACRO: a row of docs/many-classes/differences.csv."""

    data: str
    seed: int
    arm: str
    other: str
    metric: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class MinedRow:
    """How many hard negatives of a class were mined from slides of `label`: a row of mined.csv."""

    data: str
    seed: int
    hard_for: str
    label: str
    n: int


@dataclass(frozen=True)
class TwoClassRow:
    """A test fold of the colon set, two classes in the way of `path`: a row of docs/many-classes/two.csv.

    `largest_difference` is that of a score to the score of the network of two classes.
    """

    path: str
    fold: int
    auc: float
    largest_difference: float


def run_synthetic(output: Path, *, seed: int, workers: int) -> Path:
    """Draw, patch, encode and evaluate the synthetic slides of a seed; the folder of the tables."""
    folder = output / f"synthetic-{seed}"
    write_demo_study(folder, seed=seed, n_classes=3, quiet=True)
    study = open_study(folder, overrides=[f"evaluation.arms=[{', '.join(ARMS)}]"])
    patch_study(study, options=RunOptions(quiet=True))
    encode_study(study, options=RunOptions(quiet=True))
    return evaluate(study, engine=find_engine(workers=workers)).folder


def run_colon(output: Path, *, bags: Sequence[Bag], kinds: Sequence[str], workers: int) -> Path:
    """Evaluate the colon set as a study of features with four classes; the folder of the tables."""
    folder = output / "colon"
    (folder / "features").mkdir(parents=True, exist_ok=True)
    for bag in bags:
        path = folder / "features" / f"{bag.slide_id}.h5"
        if not path.exists():
            write_bag(path, bag, attributes={"encoder": LITE0})
    lines = [f"{bag.slide_id},{bag.case_id},{kind}" for bag, kind in zip(bags, kinds, strict=True)]
    (folder / "slides.csv").write_text("\n".join(["slide_id,case_id,label", *lines, ""]), encoding="utf-8")
    (folder / FILE_NAME).write_text(COLON_STUDY, encoding="utf-8")
    return evaluate(open_study(folder), engine=find_engine(workers=workers)).folder


def colon_bags(data: Path, *, output: Path) -> tuple[list[Bag], list[str]]:
    """The bags of the colon set by group, encoded, and the kind of nucleus that each image has most of."""
    config = published_config("colon", encode=LITE0)
    published = read_published("colon", folder=data / FOLDERS["colon"], split="group", config=config.patches)
    encoder, made = open_encoder(LITE0), list[Bag]()
    kinds: list[str] = []
    for bag in published.bags:
        kept = output / "colon-embedded" / f"{bag.slide_id}.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, encoder.embed(bag.instances))
        made.append(replace(bag, instances=np.load(kept)))
        nuclei = {kind: len(colon_nuclei(published.paths[bag.slide_id], kind=kind)) for kind in NUCLEI}
        kinds.append(max(NUCLEI, key=lambda kind: nuclei[kind]))
    return made, kinds


def two_classes(bags: Sequence[Bag]) -> list[TwoClassRow]:
    """The networks of `ours` on the folds of the colon set, as two classes and as many."""
    ways = {
        "two classes": TWO_CLASSES,
        "two ordered classes": TaskConfig(names=("normal", "epithelial"), ordinal=True),
        "two exclusive classes": TaskConfig(names=("normal", "epithelial")),
    }
    config = resolve_config(model_config(published_config("colon", encode=LITE0)), kind="features")
    labels, cases = np.array([bag.label for bag in bags]), [bag.case_id for bag in bags]
    found: list[TwoClassRow] = []
    for number, fold in enumerate(repeated_folds(labels, cases, n_folds=5, n_repeats=1, seed=0)[0]):
        training, test = ([bags[int(i)] for i in part] for part in (fold.train, fold.test))
        of_two: np.ndarray | None = None
        for way, task in ways.items():
            network = fit(training, config=config.model_copy(update={"task": task}), seed=number)
            scores = score_bags(network, test)
            yes = np.array([s.bag_score if s.class_scores is None else s.class_scores[1] for s in scores])
            of_two = yes if of_two is None else of_two
            auc = binary_metrics(labels[fold.test], yes).auc
            found.append(TwoClassRow(way, number, auc, float(np.abs(yes - of_two).max())))
    return found


def keep(folder: Path, *, data: str, seed: int) -> None:
    """Put the numbers of a study into the kept rows, in place of those of the same study."""
    found = [
        ClassRow(data, seed, one.arm, one.class_name, one.metric, one.value, one.low, one.high)
        for one in read_table(folder / "intervals.csv", Interval)
        if one.metric in METRICS
    ]
    differences = [
        DifferenceRow(data, seed, one.arm, one.other, one.metric, one.difference, one.low, one.high)
        for one in read_table(folder / "comparisons.csv", Comparison)
        if one.metric in METRICS and one.class_name == MACRO
    ]
    mined = _mined(folder, data=data, seed=seed)
    for name, row, new in (
        *(("results", ClassRow, found), ("differences", DifferenceRow, differences)),
        ("mined", MinedRow, mined),
    ):
        path = KEPT / f"{name}.csv"
        others = [one for one in read_table(path, row) if (one.data, one.seed) != (data, seed)]
        ordered = sorted([*others, *new], key=lambda one: (list(SETS).index(one.data), one.seed))
        write_table(path, ordered, row=row)


def _mined(folder: Path, *, data: str, seed: int) -> list[MinedRow]:
    """Where the hard negatives of a study are from. All arms but the controls mine the same."""
    study = open_study(folder.parents[1])
    labels = {row.slide_id: str(row.label) for row in study.slide_table.rows}
    found = Counter(
        (row.mined.hard_for, labels[row.mined.slide_id])
        for row in read_table(folder / HARD_NEGATIVES, HardNegativeRow)
        if row.trial is not None and row.trial.arm == MINING_ARM
    )
    return [MinedRow(data, seed, *key, n) for key, n in sorted(found.items())]


def tables() -> list[str]:
    """The tables of docs/many-classes.md."""
    rows = read_table(KEPT / "results.csv", ClassRow)
    differences = read_table(KEPT / "differences.csv", DifferenceRow)
    mined = read_table(KEPT / "mined.csv", MinedRow)
    found: list[str] = []
    for data, title in SETS.items():
        here = [one for one in rows if one.data == data]
        arms = dict.fromkeys(one.arm for one in here)
        names = dict.fromkeys(one.class_name for one in here if one.class_name != MACRO)
        if not here:
            continue
        n_seeds = len({one.seed for one in here})
        found += [f"### {title}, {count(n_seeds, 'seed')}", "", "Means over the classes:", ""]
        found += _table("arm", [(f"`{arm}`", _values(here, arm=arm, name=MACRO)) for arm in arms])
        found += ["", "By class, `ours`:", ""]
        found += _table("class", [(name, _values(here, arm="ours", name=name)) for name in names])
        found += ["", "Means over the classes, differences:", ""]
        found += [*_table("arm minus other", _differences([x for x in differences if x.data == data])), ""]
        found += [*_mined_table([one for one in mined if one.data == data]), ""]
    return [*found, *_two_class_table(read_table(KEPT / "two.csv", TwoClassRow))]


def _table(first: str, rows: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    lines = [
        (first, *METRICS.values()),
        ["---"] * (1 + len(METRICS)),
        *((name, *cells) for name, cells in rows),
    ]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _values(rows: Sequence[ClassRow], *, arm: str, name: str) -> list[str]:
    """The cells of an arm for one class, or MACRO."""
    cells: list[str] = []
    for metric in METRICS:
        here = [one for one in rows if (one.arm, one.class_name, one.metric) == (arm, name, metric)]
        cells.append(_cell([(one.value, one.low, one.high) for one in here]))
    return cells


def _differences(rows: Sequence[DifferenceRow]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for arm, other in dict.fromkeys((one.arm, one.other) for one in rows):
        cells: list[str] = []
        for metric in METRICS:
            here = [one for one in rows if (one.arm, one.other, one.metric) == (arm, other, metric)]
            cells.append(_cell([(one.difference, one.low, one.high) for one in here], sign="+"))
        found.append((f"`{arm}` minus `{other}`", cells))
    return found


def _cell(values: Sequence[tuple[float, float, float]], *, sign: str = "") -> str:
    """A value and its interval; of several seeds, mean and standard error."""
    if len(values) == 1:
        value, low, high = values[0]
        return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
    mean = mean_and_se([value for value, _, _ in values])
    return f"{mean.mean:{sign}.3f} ±{mean.se:.3f}" if values else ""


def _mined_table(rows: Sequence[MinedRow]) -> list[str]:
    """The mined instances of each seed by class and label of their slide."""
    lines = [
        "Mined instances of each seed:",
        "",
        "| hard for | from slides of | instances |",
        "|---|---|---|",
    ]
    for key in dict.fromkeys((one.hard_for, one.label) for one in rows):
        n = [str(one.n) for one in rows if (one.hard_for, one.label) == key]
        lines.append(f"| {' | '.join(key)} | {', '.join(n)} |")
    return lines


def _two_class_table(rows: Sequence[TwoClassRow]) -> list[str]:
    lines = [
        "### Two classes on the path of many",
        "",
        "| trained as | AUC | largest difference of a score |",
        "|---|---|---|",
    ]
    for way in dict.fromkeys(one.path for one in rows):
        here = [one for one in rows if one.path == way]
        auc, largest = mean_and_se([one.auc for one in here]), max(one.largest_difference for one in here)
        lines.append(f"| {way} | {auc.mean:.3f} ±{auc.se:.3f} | {largest:.1g} |")
    return lines


def main() -> None:
    """Read the arguments, and run or print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the colon set")
    parser.add_argument("--output", type=Path, help="working folder")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the tables of the kept rows")
    given = parser.parse_args()
    if given.table:
        print("\n".join(tables()))
        return
    if given.output is None:
        parser.error("--output is missing")
    if given.data is not None:
        bags, kinds = colon_bags(given.data, output=given.output)
        if not (KEPT / "two.csv").exists():
            write_table(KEPT / "two.csv", two_classes(bags), row=TwoClassRow)
        keep(run_colon(given.output, bags=bags, kinds=kinds, workers=given.workers), data="colon", seed=0)
    for seed in SEEDS:
        keep(run_synthetic(given.output, seed=seed, workers=given.workers), data="synthetic", seed=seed)


if __name__ == "__main__":
    main()

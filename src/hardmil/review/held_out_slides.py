"""The held-out slides of an evaluation, with the scores of their patches."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.slide_table import SlideRow
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

ErrorKind = Literal["", "false positive", "false negative"]
FALSE_POSITIVE: ErrorKind = "false positive"
FALSE_NEGATIVE: ErrorKind = "false negative"


@dataclass(frozen=True)
class ReviewSlide:
    """A held-out slide: its score by a model that never saw its case, and what is known of it.

    `size_level0` is the edge of its patches in level-0 px; 0 where their places are unknown. `path` and `mpp`
    are those of the table. A score above `threshold` is positive.
    """

    slide_id: str
    case_id: str
    label: str
    path: Path | None
    mpp: float | None
    bag_score: float
    threshold: float
    prediction: str
    error: ErrorKind
    n_patches: int
    size_level0: int
    attention_file: Path


@dataclass(frozen=True, eq=False)
class SlidePatches:
    """What a model that never saw the slide made of its patches; contributions are NaN where there are none.

    `coords` are the top-left corners in level-0 px.
    """

    coords: Int64[np.ndarray, "patch 2"]
    attention: Float[np.ndarray, " patch"]
    contribution: Float[np.ndarray, " patch"]
    logit: Float[np.ndarray, " patch"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The slides of one arm of an evaluation in the order of the study's table.

    `negative` and `positive` are the classes.
    """

    run: str
    arm: str
    negative: str
    positive: str
    slides: Sequence[ReviewSlide]
    notes: Sequence[str]


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
    negative, positive = study.slide_table.classes
    return HeldOut(run, arm, negative, positive, slides, _notes(slides, n_rows=len(study.slide_table.rows)))


def read_patches(slide: ReviewSlide) -> SlidePatches:
    """The scores of the patches of one slide.

    Raises:
        FeatureFileError: If its file cannot be read.
    """
    with open_h5(slide.attention_file) as file:
        return _patches(file[slide.slide_id])


def each_patches(slides: Sequence[ReviewSlide]) -> Iterator[tuple[int, SlidePatches]]:
    """The number of each slide with its patches, one slide in memory at a time, file by file.

    Raises:
        FeatureFileError: If a file cannot be read.
    """
    for path in dict.fromkeys(slide.attention_file for slide in slides):
        with open_h5(path) as file:
            for number, slide in enumerate(slides):
                if slide.attention_file == path:
                    yield number, _patches(file[slide.slide_id])


def _patches(group: Any) -> SlidePatches:
    attention = np.asarray(group["attention_scores"])
    missing = np.full(len(attention), np.nan, dtype=np.float32)
    # Old files have no instance logits, and some poolings no contributions.
    logit, contribution = (
        np.asarray(group[name]) if name in group else missing for name in ("instance_logits", "contributions")
    )
    return SlidePatches(np.asarray(group["coords"], dtype=np.int64), attention, contribution, logit)


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
    result = results[key_of(predicted)]
    threshold = WITHOUT_OPERATING_POINT if math.isnan(result.op_threshold) else result.op_threshold
    # The label is that of the table, which may have been corrected since the evaluation.
    label = str(row.label)
    error: ErrorKind = ""
    if predicted.prediction != label:
        error = FALSE_POSITIVE if label == study.slide_table.classes[0] else FALSE_NEGATIVE
    return ReviewSlide(
        slide_id=row.slide_id,
        case_id=row.case_id,
        label=label,
        path=row.path,
        mpp=row.mpp,
        bag_score=predicted.bag_score,
        threshold=threshold,
        prediction=predicted.prediction,
        error=error,
        n_patches=0,
        size_level0=0,
        attention_file=folder / TRIALS / result.config_hash / "attention.h5",
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
                    sizes[slide.slide_id] = _sizes(file[slide.slide_id])
    return [
        replace(one, n_patches=sizes[one.slide_id][0], size_level0=sizes[one.slide_id][1]) for one in slides
    ]


def _sizes(group: h5py.Group | h5py.Dataset | h5py.Datatype) -> tuple[int, int]:
    coords: Any = group["coords"]  # pyright: ignore[reportIndexIssue]
    return int(coords.shape[0]), int(np.asarray(group.attrs["patch_size_level0"]))


def _notes(slides: Sequence[ReviewSlide], *, n_rows: int) -> list[str]:
    without = [slide.slide_id for slide in slides if slide.size_level0 == 0]
    notes = [f"{len(slides)} of {n_rows} slides were held out"] if len(slides) < n_rows else []
    if without:
        notes.append(f"the places of the patches of {some_of(without)} are unknown: they cannot be shown")
    return notes

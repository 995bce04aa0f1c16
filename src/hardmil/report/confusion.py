"""How each held-out slide was called, and what the report shows of wrongly called slides."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain, permutations, zip_longest
from pathlib import Path

import numpy as np

from hardmil.config.task import TaskConfig
from hardmil.evaluation.attention_file import read_attention
from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import HardNegativeRow, PredictionRow, key_of
from hardmil.pictures.bag_heatmap import slide_attention
from hardmil.pictures.heatmap import SlideAttention
from hardmil.report.hard_negatives import gallery_item
from hardmil.report.held_out import first_repeat, with_attention_file
from hardmil.report.page_data import CalledSlide, Confusion
from hardmil.report.slide_drawings import NO_PATH, NO_ROOM, DrawnPictures, PictureRequest

MAX_SLIDES = 40
"""Wrongly called slides with pictures; the others are only named."""

MAX_MINED = 3
"""Pictures of patches mined from a false positive."""

NO_PLACES = "the feature files have no patch coordinates"
NO_ATTENTION = "its attention is not available: the trials folder of the study was deleted"


def confusion_of(rows: TrialRows, *, arm: str, evaluation: Evaluation) -> Confusion | None:
    """How the arm called each slide in its first repeat; None if it has no predictions.

    A call is made at the operating point, or at 0.5 if none was set. Of more than two classes, it is the
    predicted class.
    """
    predictions = first_repeat(rows, arm=arm)
    if not predictions:
        return None
    n_repeats = len({key_of(row).repeat for row in rows.predictions if key_of(row).arm == arm})
    slides = _called(predictions, rows=rows, evaluation=evaluation)
    if not evaluation.task.is_binary:
        return Confusion(arm, "", n_repeats, slides)
    at_op = all(row.op_prediction for row in predictions)
    words = "the operating point, set inside each training fold" if at_op else "0.5"
    return Confusion(arm, words, n_repeats, slides)


def _called(
    predictions: Sequence[PredictionRow], *, rows: TrialRows, evaluation: Evaluation
) -> list[CalledSlide]:
    thresholds = {row.trial: row.op_threshold for row in rows.results}
    at_op = all(row.op_prediction for row in predictions)
    mined, could_be_mined = _mined_by_slide(rows.hard_negatives), _could_be_mined(evaluation)
    is_binary = evaluation.task.is_binary
    slides: list[CalledSlide] = []
    for row in predictions:
        false_for, called = (
            _false_for(row, evaluation=evaluation),
            "positive" if is_binary else row.prediction,
        )
        from_it = _mined_as(mined.get(row.slide_id, []), false_for)
        could_be = bool(false_for) and row.slide_id in could_be_mined
        slide = CalledSlide(
            slide_id=row.slide_id,
            label=row.label,
            called=row.prediction,
            bag_score=row.bag_score,
            threshold=thresholds[key_of(row)] if at_op else 0.5 if is_binary else 0.0,
            mined=_mined_words(from_it, called=called) if could_be else "",
            scored="" if is_binary or evaluation.task.multi_label else _scored_words(row),
            false_for=false_for,
        )
        slides.append(_with_answers(slide, row, task=evaluation.task))
    return slides


def _false_for(row: PredictionRow, *, evaluation: Evaluation) -> list[str]:
    """The branches that could have mined from this slide as it was called; [""] for a negative one of two."""
    task = evaluation.task
    label, called = labels_of(row, task=task, classes=evaluation.classes)
    return [
        name
        for branch, name in enumerate(task.branch_names)
        if task.is_free(label, branch=branch) and (task.is_binary or task.is_yes(called, branch=branch))
    ]


def labels_of(row: PredictionRow, *, task: TaskConfig, classes: Sequence[str]) -> tuple[int, int]:
    """The label of a slide, and that of its call."""
    read = classes.index if task.is_binary else task.label_of
    return read(row.label), read(row.prediction)


def _with_answers(slide: CalledSlide, row: PredictionRow, *, task: TaskConfig) -> CalledSlide:
    """The slide with the classes that it has and is called, in a multi-label study."""
    if not task.multi_label:
        return slide
    label, called = task.label_of(row.label), task.label_of(row.prediction)
    wrong = [name for k, name in enumerate(task.names) if (label ^ called) >> k & 1]
    return replace(
        slide,
        classes=[name for k, name in enumerate(task.names) if label >> k & 1],
        called_classes=[name for k, name in enumerate(task.names) if called >> k & 1],
        error=max((abs(row.scores[name] - 0.5) for name in wrong), default=0.0),
        scored="score " + ", ".join(f"{row.scores[name]:.3f} for {name}" for name in wrong),
    )


def _mined_as(rows: Sequence[HardNegativeRow], false_for: Collection[str]) -> list[HardNegativeRow]:
    """Those that were mined because their slide was called one of these classes."""
    return [row for row in rows if row.mined.hard_for in false_for]


def _scored_words(row: PredictionRow) -> str:
    """The scores of the class that a slide was called and of its own, in words."""
    names = dict.fromkeys((row.prediction, row.label))
    return "score " + ", ".join(f"{row.scores[name]:.3f} for {name}" for name in names)


def wrong_slides(confusion: Confusion, *, classes: Sequence[str]) -> list[CalledSlide]:
    """The wrongly called slides, largest error first, alternating the cells of the confusion.

    Of two classes, false positives come first. Of more, an error is as large as the score of the class that
    the slide was called.
    """
    pairs = list(permutations(classes, 2))
    cells = [confusion.cell(label, called) for label, called in pairs]
    for one in cells:
        one.sort(key=lambda slide: -abs(slide.bag_score - slide.threshold))
    return [slide for slide in chain.from_iterable(zip_longest(*cells)) if slide is not None]


def wrong_slide_requests(
    wrong: Sequence[CalledSlide], *, shown: Mapping[str, SlideAttention], rows: TrialRows
) -> list[PictureRequest]:
    """The requests for pictures of the first MAX_SLIDES of them."""
    mined = _mined_by_slide(rows.hard_negatives)
    requests: list[PictureRequest] = []
    for slide in wrong[:MAX_SLIDES]:
        items = {
            (row.mined.x, row.mined.y): gallery_item(row)
            for row in _mined_as(mined.get(slide.slide_id, []), slide.false_for)
            if row.mined.size_level0 > 0 and slide.mined
        }
        hardest = sorted(items.values(), key=lambda item: -item.attention)[:MAX_MINED]
        attention = shown.get(slide.slide_id)
        requests.append(PictureRequest(slide.slide_id, attention, small=True, mined=hardest))
    return requests


def with_pictures(
    confusion: Confusion,
    *,
    drawn: Mapping[str, DrawnPictures],
    wrong: Sequence[CalledSlide],
    shown: Mapping[str, SlideAttention | str],
) -> Confusion:
    """The same with pictures of the wrongly called slides, or the reason why there are none."""
    names = {slide.slide_id for slide in wrong}

    def pictured(slide: CalledSlide) -> CalledSlide:
        if slide.slide_id not in names:
            return slide
        found = drawn.get(slide.slide_id, DrawnPictures(why_not=NO_ROOM))
        attention = shown.get(slide.slide_id)
        why = attention if isinstance(attention, str) else found.why_not
        return replace(slide, pictures=found.small, why_not=why, mined_pictures=found.mined)

    return replace(confusion, slides=[pictured(slide) for slide in confusion.slides])


def attention_of_arm(
    evaluation: Evaluation,
    *,
    rows: TrialRows,
    arm: str,
    slide_ids: Collection[str],
    paths: Mapping[str, Path | None],
    mpp: Mapping[str, float | None],
) -> dict[str, SlideAttention | str]:
    """The attention of the arm's first repeat on these held-out slides, or why it cannot be shown."""
    bags = {bag.slide_id: bag for bag in evaluation.cohort.bags}
    found: dict[str, SlideAttention | str] = {}
    for row, stored in with_attention_file(evaluation, rows=rows, arm=arm):
        if row.slide_id not in slide_ids:
            continue
        bag = bags[row.slide_id]
        if paths.get(bag.slide_id) is None:
            found[bag.slide_id] = NO_PATH
        elif bag.size_level0_px == 0:
            found[bag.slide_id] = NO_PLACES
        elif not stored.exists():
            found[bag.slide_id] = NO_ATTENTION
        else:
            attention, _ = read_attention(stored, slide_id=bag.slide_id)
            found[bag.slide_id] = slide_attention(
                bag,
                attention=attention,
                bag_score=row.bag_score,
                label=row.label,
                mpp=mpp.get(bag.slide_id),
                shown_class=shown_class(row, task=evaluation.task),
            )
    return found


def shown_class(row: PredictionRow, *, task: TaskConfig) -> str:
    """Whose attention is shown of a slide: that of the class it was called; empty with two classes."""
    return "" if task.is_binary else task.branch_titles[shown_branch(row, task=task)]


def shown_branch(row: PredictionRow, *, task: TaskConfig) -> int:
    """The branch whose attention is shown of a slide of more than two classes."""
    scores = np.array([row.scores[name] for name in task.names])
    return task.branch_of(task.label_of(row.prediction), class_scores=scores)


def _could_be_mined(evaluation: Evaluation) -> set[str]:
    """The slides that an arm that mines was trained on in one of the folds that were run."""
    mining = [
        trial
        for trial in evaluation.trials()
        if any(one.mining.use != "none" for one in (trial.arm, *trial.arm.candidates))
    ]
    return {evaluation.cohort.bags[i].slide_id for trial in mining for i in trial.fold.train}


def _mined_by_slide(rows: Sequence[HardNegativeRow]) -> dict[str, list[HardNegativeRow]]:
    found: dict[str, list[HardNegativeRow]] = {}
    for row in rows:
        if row.mined.source != "random":
            found.setdefault(row.mined.slide_id, []).append(row)
    return found


def _mined_words(rows: Sequence[HardNegativeRow], *, called: str) -> str:
    """How many patches were mined from a slide while it was trained on, by which arms, in which rounds."""
    if not rows:
        return f"Nothing was mined from it: where other folds trained on it, no model called it {called}."
    n = len({row.mined.instance for row in rows})
    arms = ", ".join(dict.fromkeys(key_of(row).arm for row in rows))
    rounds = sorted({row.mined.round for row in rows})
    words = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
    return (
        f"Where other folds trained on it, {n} of its patches {'was' if n == 1 else 'were'} mined "
        f"({arms}; {words})."
    )

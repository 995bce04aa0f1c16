"""`hardmil train STUDY`: one deployable bundle from all slides."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hardmil.bundles.bundle import Card
from hardmil.bundles.bundle_training import DEFAULT_THRESHOLD, TrainedBundle, train_bundle
from hardmil.commands.arms_table import AUTO_COULD_NOT
from hardmil.evaluation.arm_name import parse_arm_name
from hardmil.evaluation.arms import AUTO
from hardmil.evaluation.choice import Choice
from hardmil.jobs.outcome import Outcome
from hardmil.mil.operating import OperatingPoint
from hardmil.preprocessing.study_folder import open_study
from hardmil.statistics.cautions import few_cases_note
from hardmil.tracking import TrackWith
from hardmil.words import count


def train(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    track: TrackWith | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train the study's arm on all its slides, and say what came out."""
    study = open_study(path, overrides=overrides)
    trained = train_bundle(study, device=device, track=track, quiet=quiet)
    folder, card = trained.folder, trained.card
    if not trained.is_new:
        line = f"{folder} was already trained with these settings; nothing to do"
        return Outcome([line], {"bundle": str(folder)}, trained.failures)
    note = few_cases_note(trained.n_cases) if card.has_operating_point else None
    lines = [
        *trained.notes,
        f"trained {card.arm} on {_slides(trained)}",
        *([_choice_line(card.choice)] if study.config.arm == AUTO else []),
        mining_line(card),
        *_threshold_lines(card),
        *([note] if note else []),
        f"bundle: {folder}",
    ]
    values = {
        "bundle": str(folder),
        "arm": card.arm,
        "choice": asdict(card.choice) if card.choice else None,
        "slides": len(card.training_slides),
        "n_false_positive_bags": card.n_false_positive_bags,
        "n_hard": card.n_hard,
        "operating": card.operating.model_dump(mode="json") if card.operating else None,
        **({} if card.task.is_binary else _class_values(card)),
    }
    return Outcome(lines, values, trained.failures, trained.log)


def _class_values(card: Card) -> dict[str, object]:
    """The classes, and the operating point of each branch by its class."""
    points = {
        name: point.model_dump(mode="json")
        for name, point in zip(
            card.task.branch_names, card.class_operating, strict=bool(card.class_operating)
        )
    }
    return {"classes": list(card.classes), "class_operating": points}


def _slides(trained: TrainedBundle) -> str:
    card = trained.card
    if card.task.is_binary:
        of_classes = f"{trained.n_of_class[1]} {card.classes[1]}, the positive label"
    else:
        counted = zip(trained.n_of_class, card.classes, strict=True)
        of_classes = ", ".join(f"{n} {name}" for n, name in counted)
    return f"{count(len(card.training_slides), 'slide')} ({of_classes}) of {trained.n_cases} cases"


def _choice_line(choice: Choice | None) -> str:
    """What `auto` took, and how far behind the others are."""
    if choice is None:
        return AUTO_COULD_NOT
    by_distance = sorted(choice.candidates, key=lambda one: one.below_best)
    shown = ", ".join(f"{one.name} {one.value:.3f}" for one in by_distance[:3])
    return f"auto took {choice.chosen} by out-of-fold {choice.criterion}; best of {len(by_distance)}: {shown}"


def mining_line(card: Card) -> str:
    """What mining found, in words."""
    if not parse_arm_name(card.arm).mines:
        return "this arm does not mine"
    if not card.n_hard:
        if not card.task.is_binary:
            return (
                "mined nothing: no slide was called a class that it is not of, so the model equals its base"
            )
        return "mined nothing: no negative slide was scored positive, so the model equals its base"
    slides = count(card.n_false_positive_bags, "false-positive slide")
    return f"mined {count(card.n_hard, 'hard negative')} from {slides}, and trained again with them"


def _threshold_lines(card: Card) -> list[str]:
    """Each threshold and how good it is, in words."""
    if not card.has_operating_point:
        return [
            f"threshold {DEFAULT_THRESHOLD}, not set on scores: evaluation.operating_folds is 0, or a class "
            "has too few cases"
        ]
    if card.operating is not None:
        return [_threshold_line(card.operating)]
    titled = zip(card.task.branch_titles, card.class_operating, strict=True)
    return [f"{title}: {_threshold_line(point)}" for title, point in titled]


def _threshold_line(point: OperatingPoint) -> str:
    threshold, sensitivity, fpr = (
        f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"
        for one in (point.threshold, point.sensitivity, point.fpr)
    )
    return (
        f"threshold {threshold} for {point.target}: sensitivity {sensitivity}, FPR {fpr}, out of fold, with "
        f"95% intervals by case ({point.n_positive} positive, {point.n_negative} negative slides)"
    )

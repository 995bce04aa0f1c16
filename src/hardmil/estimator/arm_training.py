"""The training of a classifier: by its settings, or by the name of an arm; `auto` chooses settings too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import expit

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle_training import DEFAULT_THRESHOLD
from hardmil.config.model import BagKind, resolve_config
from hardmil.config.study import StudyConfig, model_config
from hardmil.config.task import TaskConfig
from hardmil.device import Device
from hardmil.errors import ConfigError
from hardmil.evaluation.arms import AUTO, BASES, TWO_CLASSES_ONLY, Arm, arm
from hardmil.evaluation.choice import Choice
from hardmil.evaluation.cohort import Cohort, make_cohort
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import (
    OperatingSettings,
    Trial,
    calibration_of,
    chosen_trial,
    class_calibration_of,
    whole_arm_out_of_fold,
)
from hardmil.evaluation.whole_study import temporary_trainer, train_whole, whole_trial
from hardmil.mil.bag_score import BagScore
from hardmil.mil.calibration import Calibration
from hardmil.mil.class_calibration import ClassCalibration
from hardmil.mil.class_scores import scores_by_class
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit
from hardmil.mining.procedure import Mined, train_and_mine

Settings = Mapping[str, Mapping[str, int | float]]
"""Values of settings, by section and name."""

SETTINGS: dict[BagKind, tuple[Settings, ...]] = {
    "features": (
        {"network": {"clip": 3}, "training": {"epochs": 20}},
        {"network": {"clip": 5}, "training": {"epochs": 20}},
        {"network": {"clip": 5}, "training": {"epochs": 10}},
        {"network": {"clip": 3}},
        {},
        {"network": {"clip": 3}, "training": {"epochs": 10, "lr": 1e-3}},
        {"network": {"clip": 5, "embedding_dim": 512}, "training": {"epochs": 10}},
    ),
    "pixels": (
        {},
        {"training": {"epochs": 60}},
        {"training": {"lr": 2e-4}},
        {"network": {"embedding_dim": 128}},
    ),
}
"""What `auto` tries with its first arm; {}: the settings of the classifier."""
THE_BEST = 0.0
"""Standard errors below the best that are near enough. Among settings, none is simpler than the others."""


@dataclass(frozen=True, eq=False)
class TrainedArm:
    """A trained arm, what it mined, and how its scores become probabilities.

    `choices` are those of `auto`: of the settings, and of the arm. Nothing is calibrated where the classifier
    has no `arm`, or a class has too few cases for out-of-fold scores.
    """

    name: str
    members: Sequence[Mined]
    choices: tuple[Choice, ...] = ()
    calibration: Calibration | None = None
    class_calibration: ClassCalibration | None = None

    @property
    def threshold(self) -> float:
        """The score that means even odds."""
        return DEFAULT_THRESHOLD if self.calibration is None else float(expit(self.calibration.shift))


def train(
    bags: Sequence[Bag],
    *,
    study: StudyConfig,
    arm_name: str | None,
    task: TaskConfig,
    seed: int,
    device: Device,
    start: BagClassifier | None = None,
) -> TrainedArm:
    """A classifier trained on these bags, by its settings, or by the name of an arm.

    Args:
        bags: The training bags.
        study: The settings that the name of the arm does not change.
        arm_name: The arm; None: pooling, mining and losses are those of the study.
        task: The classes.
        seed: Seed of weights, draws and folds.
        device: Where to run.
        start: The network to begin with; None: a new one.

    Raises:
        ConfigError: If the arm is not known, is not for these classes or for bags in memory, or a network to
            begin with is given as well.
    """
    if arm_name is None:
        return _train_settings(bags, study=study, task=task, seed=seed, device=device, start=start)
    if start is not None:
        raise ConfigError(
            f"warm_start: continues one network, but the arm is {arm_name}; expected arm=None; set one of "
            "the two"
        )
    return _train_arm(bags, name=arm_name, study=study, task=task, seed=seed, device=device)


def _train_settings(
    bags: Sequence[Bag],
    *,
    study: StudyConfig,
    task: TaskConfig,
    seed: int,
    device: Device,
    start: BagClassifier | None,
) -> TrainedArm:
    """Trained with the settings as they are; nothing is held out."""
    kind, use = study.pooling.kind, study.mining.use
    if not task.is_binary and kind in TWO_CLASSES_ONLY:
        raise ConfigError(
            f"pooling: {kind} is for two labels; found {task.n_classes}; expected another pooling, such as "
            "adaptive-attention"
        )
    settings = model_config(study).model_copy(update={"task": task})
    mined = train_and_mine(
        bags,
        config=resolve_config(settings, kind=bags[0].kind),
        mining=study.mining,
        seed=seed,
        train=partial(fit, device=device, start=start),
    )
    base = next(name for name, pooling in BASES.items() if pooling == kind)
    return TrainedArm(base if use == "none" else f"{base}+{use}", [mined])


def _train_arm(
    bags: Sequence[Bag], *, name: str, study: StudyConfig, task: TaskConfig, seed: int, device: Device
) -> TrainedArm:
    """Trained as `hardmil train` does it: `auto` chooses first, and scores are calibrated out of fold."""
    study = study.model_copy(update=_settings_of(task))
    wanted = arm(name, study=study, kind=bags[0].kind)
    if wanted.fisher is not None or wanted.may_use_verdicts:
        raise ConfigError(
            f"arm: {name} needs a study, with pixels or verdicts of a person; expected another arm, such as "
            "ours-top5; or make a study: hardmil init"
        )
    cohort = make_cohort(bags, task=task)
    operating = OperatingSettings(study.evaluation.operating_point, study.mining.inner_folds)
    with temporary_trainer(cohort, device=device) as trainer:
        trial = whole_trial(wanted, cohort=cohort, seed=seed, operating=operating)
        trial, of_settings = _with_chosen_settings(trial, study=study, cohort=cohort, trainer=trainer)
        trial, of_arms = chosen_trial(cohort.bags, trial=trial, cohort=cohort, trainer=trainer)
        members = train_whole(trial, cohort=cohort, trainer=trainer)
        scores = whole_arm_out_of_fold(bags, trial=trial, cohort=cohort, trainer=trainer)
    choices = tuple(one for one in (of_settings, of_arms) if one is not None)
    return _calibrated(TrainedArm(trial.arm.name, members, choices), scores, arm=trial.arm, bags=bags)


def _settings_of(task: TaskConfig) -> dict[str, object]:
    """The settings of a study that has these classes."""
    if task.is_binary:
        return {}
    named = {"negative": task.negative, "ordinal": task.ordinal, "multi_label": task.multi_label}
    return {"classes": task.names, **named}


def _with_chosen_settings(
    trial: Trial, *, study: StudyConfig, cohort: Cohort, trainer: Trainer
) -> tuple[Trial, Choice | None]:
    """The trial of `auto` with the settings that suit its first arm best, and the choice."""
    auto, kind = trial.arm.auto, cohort.bags[0].kind
    if auto is None:
        return trial, None
    first = trial.arm.candidates[0].name
    free = [_open_part(one, study=study) for one in SETTINGS[kind]]
    studies = {" ".join([first, *_words(one)]): _with_settings(study, one) for one in free}
    candidates = tuple(
        replace(arm(first, study=one, kind=kind), name=words) for words, one in studies.items()
    )
    best = auto.model_copy(update={"standard_errors": THE_BEST})
    among = replace(trial, arm=replace(trial.arm, auto=best, candidates=candidates))
    _, choice = chosen_trial(cohort.bags, trial=among, cohort=cohort, trainer=trainer)
    if choice is None:
        return trial, None
    return replace(trial, arm=arm(AUTO, study=studies[choice.chosen], kind=kind)), choice


def _open_part(settings: Settings, *, study: StudyConfig) -> Settings:
    """Those of the settings that the person left open."""
    return {
        section: {name: one for name, one in values.items() if getattr(getattr(study, section), name) is None}
        for section, values in settings.items()
    }


def _with_settings(study: StudyConfig, settings: Settings) -> StudyConfig:
    """The study with some settings changed."""
    return study.model_copy(
        update={
            section: getattr(study, section).model_copy(update=dict(values))
            for section, values in settings.items()
        }
    )


def _words(settings: Settings) -> list[str]:
    """The settings for a person, such as `clip=3`."""
    return [f"{name}={value:g}" for values in settings.values() for name, value in values.items()]


def _calibrated(
    trained: TrainedArm, scores: list[BagScore] | None, *, arm: Arm, bags: Sequence[Bag]
) -> TrainedArm:
    if scores is None:
        return trained
    task, labels = arm.model.task, np.array([bag.label for bag in bags])
    of_bags = scores_by_class(scores, task=task)
    if task.is_binary:
        return replace(trained, calibration=calibration_of(arm, labels, of_bags, method="temperature"))
    found = class_calibration_of(arm, labels, of_bags, method="temperature")
    return replace(trained, class_calibration=found)

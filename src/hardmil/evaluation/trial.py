"""One arm on one fold: base, inner folds, mining, retraining, operating point, test."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from hardmil.bags.bag import Bag
from hardmil.bags.folds import Fold, fewest_cases, possible_inner_folds
from hardmil.config.evaluation import (
    CalibrationMethod,
    EvaluationConfig,
    FisherConfig,
    parse_operating_target,
)
from hardmil.config.model import training_config
from hardmil.config.section import fingerprint
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.choice import Choice, choose
from hardmil.evaluation.cohort import Cohort
from hardmil.evaluation.leakage import Guard
from hardmil.evaluation.trainer import CODE_VERSION, PIXEL_VERSION, Trainer
from hardmil.evaluation.truth import instance_auc, share_of_look_alikes
from hardmil.metrics import BinaryMetrics, binary_metrics
from hardmil.mil.bag_score import BagScore
from hardmil.mil.calibration import Calibration, fit_calibration
from hardmil.mil.class_calibration import ClassCalibration, fit_class_calibration
from hardmil.mil.class_metrics import class_metrics
from hardmil.mil.class_scores import scores_by_class
from hardmil.mil.inference import score_together
from hardmil.mil.operating import choose_threshold
from hardmil.mil.out_of_fold import Score, out_of_fold_scores
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.procedure import train_members
from hardmil.mining.verdicts import reviewer_digest

DEFAULT_TARGET = "sensitivity=0.90"
"""Of the choice of `auto` where no operating point is wanted."""


@dataclass(frozen=True)
class OperatingSettings:
    """The target of an arm's threshold, and the number of folds within the training bags to set it on.

    `calibration` is how scores become probabilities.
    """

    target: str
    n_folds: int
    calibration: CalibrationMethod = "temperature"

    def key(self) -> list[object]:
        """Its part of the hash of a trial, in a form that keeps hashes from before other targets existed."""
        wanted = parse_operating_target(self.target)
        target = wanted.share if wanted.kind == "sensitivity" else self.target
        calibration = [] if self.calibration == "temperature" else [self.calibration]
        return [target, self.n_folds, *calibration]


def operating_settings(config: EvaluationConfig) -> OperatingSettings | None:
    """The settings of an evaluation; None where no operating point is wanted."""
    if config.operating_folds == 0:
        return None
    return OperatingSettings(config.operating_point, max(config.operating_folds, 2), config.calibration)


@dataclass(frozen=True, eq=False)
class Trial:
    """One arm on one fold. `operating` is None where no operating point is wanted."""

    arm: Arm
    repeat: int
    fold_number: int
    fold: Fold
    seed: int
    operating: OperatingSettings | None = None

    @property
    def name(self) -> str:
        """Its name for a person; counts from 0, as the tables and `--only-folds` do."""
        return f"{self.arm.name}, repeat {self.repeat}, fold {self.fold_number}"

    def config_hash(self, cohort: Cohort) -> str:
        """A hash that changes with the input of the trial: settings, folds, seed, bags, version of the code.

        Device, precision and threads, which also change digits, are not part of it: decision 0010.
        """
        model, mining = hashed_settings(self.arm)
        sides = [self.fold.train.tolist(), self.fold.test.tolist()]
        target = reviewer_digest(cohort.verdicts) if self.arm.may_use_verdicts else None
        operating = self.operating.key() if self.operating else None
        whole: list[object] = [CODE_VERSION, model, mining, sides, self.seed, cohort.digest]
        whole += [target, operating]
        if self.arm.auto is not None:
            whole.append([self.arm.auto.hashed(), [hashed_settings(one) for one in self.arm.candidates]])
        if self.arm.fisher is not None:
            whole.append(self.arm.fisher.hashed())
        elif cohort.bags[0].kind == "pixels":
            whole.append(PIXEL_VERSION)
        return fingerprint(whole)


def hashed_settings(arm: Arm) -> list[object]:
    """The settings of model and mining, for a hash; None for the mining of an arm that does not mine."""
    mines = arm.mining.use != "none" or arm.uses_verdicts or arm.mining.self_judged.how != "none"
    return [arm.model.hashed(), arm.mining.hashed() if mines else None]


@dataclass(frozen=True, eq=False)
class TrialResult:
    """The result of a trial. `choice` is what the arm `auto` took; None for other arms.

    With more than two classes, `op_thresholds` are by branch, empty where none was set, and `probabilities`
    by bag and class.
    """

    metrics: BinaryMetrics
    test_scores: list[BagScore]
    hard_negatives: tuple[HardInstance, ...]
    n_false_positive_bags: int
    seconds: float
    op_threshold: float = math.nan
    probabilities: np.ndarray | None = None
    instance_auc: float = math.nan
    mined_look_alikes: float = math.nan
    choice: Choice | None = None
    op_thresholds: tuple[float, ...] = ()


def run_trial(trial: Trial, *, cohort: Cohort, trainer: Trainer) -> TrialResult:
    """Train the arm on the training fold, set its operating point there, score the test fold once.

    The arm `auto` first chooses one of its candidates, on the training fold.

    Raises:
        FoldError: If anything is fitted with a case outside the training fold.
    """
    started = time.monotonic()
    training = [cohort.bags[i] for i in trial.fold.train]
    test = [cohort.bags[i] for i in trial.fold.test]
    trial, choice = chosen_trial(training, trial=trial, cohort=cohort, trainer=trainer)
    learned = _learn(training, trial=trial, seed=trial.seed, cohort=cohort, trainer=trainer)
    decide = _decision(training, trial=trial, cohort=cohort, trainer=trainer)
    scores = learned.score(test)
    labels, task = np.array([bag.label for bag in test]), trial.arm.model.task
    of_bags = scores_by_class(scores, task=task)
    return TrialResult(
        metrics=binary_metrics(labels, of_bags)
        if task.is_binary
        else class_metrics(labels, of_bags, task=task),
        test_scores=scores,
        hard_negatives=learned.pool,
        n_false_positive_bags=learned.n_false_positive_bags,
        seconds=time.monotonic() - started,
        op_threshold=decide.thresholds[0] if decide and task.is_binary else math.nan,
        op_thresholds=decide.thresholds if decide and not task.is_binary else (),
        probabilities=decide.calibration.probabilities(of_bags) if decide else None,
        instance_auc=math.nan
        if trial.arm.fisher
        else instance_auc(test, scores=scores, truth=cohort.truth, task=task),
        mined_look_alikes=share_of_look_alikes(learned.pool, bags=training, truth=cohort.truth),
        choice=choice,
    )


def chosen_trial(
    training: Sequence[Bag], *, trial: Trial, cohort: Cohort, trainer: Trainer
) -> tuple[Trial, Choice | None]:
    """The trial of the candidate that `auto` takes, and the choice; other trials as they are.

    A candidate is judged by the scores that its operating point would be set on. The first one is taken where
    a class has too few cases for such scores.

    Raises:
        ConfigError: If an arm uses verdicts, and no training bag has one.
    """
    for one in (trial.arm, *trial.arm.candidates):
        cohort.check_verdicts(one, training)
    auto = trial.arm.auto
    if auto is None:
        return trial, None
    candidates = candidate_trials(trial)
    scores = {
        name: whole_arm_out_of_fold(training, trial=one, cohort=cohort, trainer=trainer)
        for name, one in candidates.items()
    }
    task = trial.arm.model.task
    found = {name: scores_by_class(one, task=task) for name, one in scores.items() if one is not None}
    if not found:
        return replace(trial, arm=trial.arm.candidates[0]), None
    choice = choose(
        found,
        labels=np.array([bag.label for bag in training]),
        cases=[bag.case_id for bag in training],
        auto=auto,
        operating_point=trial.operating.target if trial.operating else DEFAULT_TARGET,
        task=task,
    )
    return replace(trial, arm=candidates[choice.chosen].arm), choice


def candidate_trials(trial: Trial) -> dict[str, Trial]:
    """The trials that the candidates of `auto` would be, by arm, with an operating point in any case."""
    operating = trial.operating or OperatingSettings(DEFAULT_TARGET, trial.arm.mining.inner_folds)
    return {one.name: replace(trial, arm=one, operating=operating) for one in trial.arm.candidates}


@dataclass(frozen=True, eq=False)
class _Learned:
    """A trained arm: a function that scores bags, and what was mined, by the first of several networks."""

    score: Score
    pool: tuple[HardInstance, ...] = ()
    n_false_positive_bags: int = 0


def _learn(bags: Sequence[Bag], *, trial: Trial, seed: int, cohort: Cohort, trainer: Trainer) -> _Learned:
    """The whole arm, trained on these bags only; every fit is checked."""
    guard = Guard(
        frozenset(bag.case_id for bag in bags), where=f"arm {trial.arm.name}, fold {trial.fold_number}"
    )
    if trial.arm.fisher is not None:
        guard.check_bags(bags, what="the Fisher mixture")
        return _learn_fisher(bags, config=trial.arm.fisher, seed=seed, trainer=trainer)
    reviewer = cohort.reviewer(bags) if trial.arm.uses_verdicts else None
    members = train_members(
        bags,
        config=trial.arm.model,
        mining=trial.arm.mining,
        seed=seed,
        train=guard.watched(trainer.train),
        reviewer=reviewer,
    )
    for one in members:
        guard.check_mined(one.pool)
    score = partial(score_together, [one.model for one in members])
    return _Learned(score, members[0].pool, members[0].n_false_positive_bags)


def _learn_fisher(bags: Sequence[Bag], *, config: FisherConfig, seed: int, trainer: Trainer) -> _Learned:
    """SDR + SVM, which has no attention: all instances get the same."""
    from hardmil.mil.fisher import fit_fisher, score_fisher

    model = fit_fisher(bags, config=config, seed=seed, describe=trainer.describe)

    def score(bags: Sequence[Bag]) -> list[BagScore]:
        scores = score_fisher(model, bags, describe=trainer.describe)
        return [
            BagScore(float(one), np.full(len(bag), 1 / len(bag), np.float32), np.zeros(len(bag), np.float32))
            for bag, one in zip(bags, scores, strict=True)
        ]

    return _Learned(score)


@dataclass(frozen=True, eq=False)
class _Decision:
    """The threshold of each branch, and the calibration, from out-of-fold scores."""

    thresholds: tuple[float, ...]
    calibration: Calibration | ClassCalibration


def _decision(training: Sequence[Bag], *, trial: Trial, cohort: Cohort, trainer: Trainer) -> _Decision | None:
    """Threshold and calibration of the arm, set on the training bags; None if not wanted or not possible."""
    found = whole_arm_out_of_fold(training, trial=trial, cohort=cohort, trainer=trainer)
    if trial.operating is None or found is None:
        return None
    task = trial.arm.model.task
    labels = np.array([bag.label for bag in training])
    scores, method = scores_by_class(found, task=task), trial.operating.calibration
    wanted = parse_operating_target(trial.operating.target)
    if task.is_binary:
        threshold = choose_threshold(labels, scores, wanted=wanted)
        return _Decision((threshold,), calibration_of(trial.arm, labels, scores, method=method))
    answers, of_branches = task.answers(labels), task.branch_scores(scores)
    thresholds = [
        choose_threshold(yes.astype(np.int64), one, wanted=wanted)
        for yes, one in zip(answers.T, of_branches.T, strict=True)
    ]
    return _Decision(tuple(thresholds), class_calibration_of(trial.arm, labels, scores, method=method))


def calibration_of(
    arm: Arm,
    labels: Int[np.ndarray, " bag"],
    scores: Float[np.ndarray, " bag"],
    *,
    method: CalibrationMethod,
) -> Calibration:
    """The calibration of an arm, fitted on its out-of-fold scores.

    A bag logit is trained so that 0.5 means even odds; a mean of instance logits is not.
    """
    is_centred = arm.model.pooling.score == "bag"
    return fit_calibration(labels, scores, method=method, is_centred=is_centred)


def class_calibration_of(
    arm: Arm,
    labels: Int[np.ndarray, " bag"],
    class_scores: Float[np.ndarray, "bag class"],
    *,
    method: CalibrationMethod,
) -> ClassCalibration:
    """As `calibration_of`, for more than two classes."""
    is_centred = arm.model.pooling.score == "bag"
    return fit_class_calibration(
        labels, class_scores, method=method, task=arm.model.task, is_centred=is_centred
    )


def whole_arm_out_of_fold(
    training: Sequence[Bag], *, trial: Trial, cohort: Cohort, trainer: Trainer
) -> list[BagScore] | None:
    """The scores of each training bag by the whole arm, trained without the bag's case.

    The whole arm is run again in each inner fold, its mining included. Seeds are those of out-of-fold mining,
    so that equal numbers of folds share models. None where no operating point is wanted, or a class has so
    few cases that an inner fold would train on only one of it.
    """
    labels, task = np.array([bag.label for bag in training]), trial.arm.model.task
    if trial.operating is None or not operating_folds(
        trial, labels=labels, cases=[bag.case_id for bag in training]
    ):
        return None

    def learn(inside: Sequence[Bag], seed: int) -> Score:
        return _learn(inside, trial=trial, seed=seed, cohort=cohort, trainer=trainer).score

    return out_of_fold_scores(
        training, n_folds=trial.operating.n_folds, seed=trial.seed, learn=learn, task=task
    )


def operating_folds(trial: Trial, *, labels: Int[np.ndarray, " bag"], cases: Sequence[str]) -> list[Fold]:
    """The inner folds of the training bags that the operating point is set on; none if it is not set.

    Args:
        trial: The trial.
        labels: Of its training bags.
        cases: The case of each.
    """
    if trial.operating is None:
        return []
    labels = trial.arm.model.task.fold_labels(labels)
    folds = possible_inner_folds(labels, cases, n_folds=trial.operating.n_folds, seed=trial.seed)
    for number, fold in enumerate(folds):
        inside, of_inside = labels[fold.train], [cases[int(i)] for i in fold.train]
        if fewest_cases(inside, of_inside) < 2:
            return []
        # With several labels, two cases of each answer may still not be enough for folds inside.
        if labels.ndim == 2 and not possible_inner_folds(
            inside, of_inside, n_folds=trial.arm.mining.inner_folds, seed=trial.seed + 1 + number
        ):
            return []
    return folds


def longest_training(arm: Arm, *, n_operating_folds: int = 0) -> int:
    """Epochs of an arm if nothing is shared and every round mines; for progress bars.

    Candidates of `auto` that only score differently share everything.
    """
    if arm.auto is not None:
        n_folds = n_operating_folds or arm.mining.inner_folds
        trained = {
            fingerprint([training_config(one.model).hashed(), one.mining.hashed(), one.uses_verdicts]): one
            for one in arm.candidates
        }
        return sum(longest_training(one, n_operating_folds=n_folds) for one in trained.values())
    training = arm.model.training
    epochs = training.n_networks * training.epochs * (1 + n_operating_folds)
    epochs *= 2 if arm.uses_verdicts else 1
    judged = arm.mining.self_judged
    if judged.how != "none":
        epochs *= 1 + judged.rounds * (1 if judged.how == "em" else arm.mining.inner_folds)
    if arm.mining.use == "none":
        return epochs
    inner = arm.mining.inner_folds if arm.mining.source == "out-of-fold" else 0
    return epochs * (1 + arm.mining.rounds * (1 + inner))

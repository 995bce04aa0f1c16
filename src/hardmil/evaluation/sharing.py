"""Which trials share trainings, and which of them runs first."""

from collections.abc import Iterable

from hardmil.config.model import training_config
from hardmil.config.section import fingerprint
from hardmil.evaluation.arms import AUTO
from hardmil.evaluation.trial import Trial, longest_training


def groups_of(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The trials grouped by fold and base model; in each group, first the trial that others reuse most.

    When it is done, the base is in the folder of trained networks, with the inner models if it needed them.
    """
    groups: dict[object, list[Trial]] = {}
    # `auto` reuses what many arms trained: it comes last, alone.
    for trial in sorted(trials, key=lambda trial: trial.arm.auto is not None):
        model = AUTO if trial.arm.auto else fingerprint(training_config(trial.arm.model).hashed())
        groups.setdefault((trial.repeat, trial.fold_number, model), []).append(trial)
    return [sorted(group, key=_turn) for group in groups.values()]


def trial_length(trial: Trial) -> int:
    """Epochs of a trial if nothing is shared."""
    n_folds = trial.operating.n_folds if trial.operating else 0
    return longest_training(trial.arm, n_operating_folds=n_folds)


def _turn(trial: Trial) -> tuple[bool, int]:
    """Out-of-fold mining first, for its inner models; then the shortest, so that the others wait least."""
    arm = trial.arm
    mines = arm.mining.use != "none" and arm.mining.source == "out-of-fold"
    leaves_inner = (mines or arm.mining.self_judged.how == "pseudo") and not arm.uses_verdicts
    return not leaves_inner, trial_length(trial)

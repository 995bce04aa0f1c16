"""What the arm `auto` chose in the folds of an evaluation, and how clearly."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hardmil.evaluation.results import ChoiceRow, TrialKey


@dataclass(frozen=True)
class TrialChoice:
    """What `auto` took in one trial, and the best of its other candidates.

    `ahead` is how far the one taken was ahead of the other, `se` the standard error of that, by case. It is
    negative where a preferred candidate was taken that is not the best.
    """

    trial: TrialKey
    chosen: str
    value: float
    runner_up: str
    ahead: float
    se: float


@dataclass(frozen=True)
class CandidateSummary:
    """A candidate over all trials: how often it was taken, and the means of its values."""

    candidate: str
    n_chosen: int
    value: float
    below_best: float


@dataclass(frozen=True)
class ChoiceSummary:
    """All choices of `auto` in an evaluation."""

    criterion: str
    trials: Sequence[TrialChoice]
    candidates: Sequence[CandidateSummary]

    @property
    def n_clear(self) -> int:
        """Trials in which the one taken was more than one standard error ahead of all others."""
        return sum(one.ahead > one.se for one in self.trials)


def summarise_choices(rows: Iterable[ChoiceRow]) -> ChoiceSummary | None:
    """The choices of `auto`; None if there are none."""
    by_trial: dict[TrialKey, list[ChoiceRow]] = {}
    by_candidate: dict[str, list[ChoiceRow]] = {}
    for row in rows:
        by_trial.setdefault(row.trial, []).append(row)
        by_candidate.setdefault(row.candidate, []).append(row)
    if not by_trial:
        return None
    candidates = [
        CandidateSummary(
            name,
            sum(row.chosen == name for row in found),
            float(np.mean([row.value for row in found])),
            float(np.mean([row.below_best for row in found])),
        )
        for name, found in by_candidate.items()
    ]
    criterion = next(iter(by_trial.values()))[0].criterion
    return ChoiceSummary(criterion, [_of_trial(found) for found in by_trial.values()], candidates)


def _of_trial(rows: Sequence[ChoiceRow]) -> TrialChoice:
    taken = next(row for row in rows if row.candidate == row.chosen)
    other = min((row for row in rows if row is not taken), key=lambda row: row.below_best)
    # Standard errors are of the distance to the best: one of the two is the best.
    se = max(other.se, taken.se)
    ahead = other.below_best - taken.below_best
    return TrialChoice(taken.trial, taken.chosen, taken.value, other.candidate, ahead, se)


def choice_words(summary: ChoiceSummary) -> str:
    """What was taken how often, most often first, in words."""
    taken = sorted((one for one in summary.candidates if one.n_chosen), key=lambda one: -one.n_chosen)
    counts = ", ".join(f"{one.candidate} {one.n_chosen}" for one in taken)
    n = len(summary.trials)
    return f"auto took, in {n} {'trial' if n == 1 else 'trials'}: {counts} (clearly in {summary.n_clear})"

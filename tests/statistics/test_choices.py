from collections.abc import Sequence

import pytest

from hardmil.evaluation.results import ChoiceRow, TrialKey
from hardmil.statistics.choices import choice_words, summarise_choices


def _rows(fold: int, chosen: str, candidates: Sequence[tuple[str, float, float]]) -> list[ChoiceRow]:
    key, best = TrialKey("auto", "case", "features", 0, fold), max(value for _, value, _ in candidates)
    return [ChoiceRow(key, chosen, "auc", name, value, best - value, se) for name, value, se in candidates]


ROWS = [
    *_rows(0, "a", [("a", 0.9, 0.0), ("b", 0.8, 0.04), ("c", 0.7, 0.05)]),
    *_rows(1, "a", [("a", 0.8, 0.0), ("b", 0.79, 0.04), ("c", 0.5, 0.05)]),
    *_rows(2, "a", [("a", 0.85, 0.03), ("b", 0.86, 0.0), ("c", 0.5, 0.05)]),
]


def test_each_trial_has_its_runner_up_and_the_distance_to_it():
    found = summarise_choices(ROWS)
    assert found is not None
    assert [(one.trial.fold, one.chosen, one.runner_up) for one in found.trials] == [
        (0, "a", "b"),
        (1, "a", "b"),
        (2, "a", "b"),
    ]
    assert [one.ahead for one in found.trials] == pytest.approx([0.1, 0.01, -0.01])
    assert [one.se for one in found.trials] == [0.04, 0.04, 0.03]
    assert found.n_clear == 1


def test_candidates_are_counted_and_averaged_over_the_trials():
    found = summarise_choices(ROWS)
    assert found is not None
    assert [(one.candidate, one.n_chosen) for one in found.candidates] == [("a", 3), ("b", 0), ("c", 0)]
    assert found.candidates[1].value == pytest.approx((0.8 + 0.79 + 0.86) / 3)
    assert found.candidates[1].below_best == pytest.approx((0.1 + 0.01) / 3)


def test_in_words_the_most_often_taken_comes_first():
    mixed = [*ROWS, *_rows(3, "c", [("a", 0.5, 0.0), ("b", 0.4, 0.1), ("c", 0.9, 0.1)])]
    found = summarise_choices(mixed)
    assert found is not None
    assert choice_words(found) == "auto took, in 4 trials: a 3, c 1 (clearly in 2)"


def test_without_choices_there_is_no_summary():
    assert summarise_choices([]) is None

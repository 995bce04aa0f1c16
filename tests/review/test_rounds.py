from dataclasses import fields, replace
from pathlib import Path

import pytest
from tests.support.reviews import write_reviewed_study

from hardmil.preprocessing.study_folder import Study
from hardmil.review.rounds import Round, add_round, read_rounds, round_words

TEXT = {"at": "2026-01-02T03:04:05+00:00", "arm": "a", "arm_with_verdicts": "b", "threshold": "0.5"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_reviewed_study(tmp_path / "study")


def _round(**values: object) -> Round:
    kinds = {one.name: one.type for one in fields(Round)}
    numbers = {name: 0 if kind is int else 0.25 for name, kind in kinds.items() if name != "n_of_class"}
    return Round(**(numbers | TEXT | {"verdicts": "hash"} | values))  # pyright: ignore[reportArgumentType]


def test_a_round_with_other_verdicts_is_added_and_one_with_the_same_replaced(study: Study):
    assert read_rounds(study) == []
    first = add_round(study, _round(n_verdicts=10))
    assert (first.number, read_rounds(study)) == (1, [first])
    again = add_round(study, _round(n_verdicts=10, fpr=0.5))
    second = add_round(study, _round(n_verdicts=20, verdicts="other"))
    third = add_round(study, _round(n_verdicts=20, verdicts="other", arm="c"))
    assert [one.number for one in (again, second, third)] == [1, 2, 3]
    assert read_rounds(study) == [again, second, third]


@pytest.mark.parametrize(
    ("low", "high", "sensitivity_high", "said"),
    [
        (-0.2, -0.1, 0.1, "the verdicts lowered the false-positive rate"),
        (-0.2, -0.1, -0.1, "the verdicts lowered the false-positive rate; the sensitivity is lower, too"),
        (0.1, 0.2, 0.1, "the verdicts raised the false-positive rate"),
        (-0.1, 0.2, 0.1, "whether the verdicts changed the false-positive rate is not decided"),
        (0.0, 0.0, 0.1, "the false-positive rate is the same"),
    ],
)
def test_the_conclusion_is_that_of_the_interval(low: float, high: float, sensitivity_high: float, said: str):
    limits = {"fpr_difference_low": low, "fpr_difference_high": high}
    one = _round(**limits, sensitivity_difference_high=sensitivity_high)
    assert round_words(one)[-1] == said


def test_rates_are_shown_with_their_limits():
    one = replace(_round(), fpr=0.5, fpr_low=0.4, fpr_with=0.1, fpr_difference=-0.4, fpr_difference_low=-0.6)
    assert round_words(one)[1] == (
        "false-positive rate: 0.500 [0.400, 0.250] without, 0.100 [0.250, 0.250] with verdicts; difference "
        "-0.400 [-0.600, +0.250]"
    )

from hardmil.statistics.cautions import few_cases_note, few_cases_notes
from hardmil.statistics.intervals import Interval


def _interval(n_cases: int) -> Interval:
    return Interval("ours", "case", "grid", "fpr_op", 0.3, 0.2, 0.4, n_cases, 1)


def test_below_forty_cases_the_note_has_their_number():
    assert few_cases_note(40) is None
    note = few_cases_note(39)
    assert note is not None
    assert note.startswith("Only 39 cases: with fewer than 40, 95% intervals")
    assert (few_cases_note(1) or "").startswith("Only 1 case: ")


def test_the_arm_with_the_fewest_cases_decides():
    assert few_cases_notes([_interval(40), _interval(9), _interval(12)]) == [few_cases_note(9)]
    assert few_cases_notes([_interval(40)]) == []
    assert few_cases_notes([]) == []

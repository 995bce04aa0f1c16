import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.config.evaluation import parse_operating_target
from hardmil.errors import BagError
from hardmil.metrics import binary_metrics
from hardmil.mil.operating import OperatingPoint, choose_threshold, set_operating_point

LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.7, 0.3, 0.85, 0.4, 0.2, 0.1, 0.05])

labels_and_scores = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6).map(lambda n: n / 8)), min_size=1, max_size=25
)
shares = st.integers(0, 20).map(lambda n: n / 20)


def rates(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    found = binary_metrics(labels, scores, threshold=threshold)
    return found.recall, found.fpr


@pytest.mark.parametrize(
    ("target", "sensitivity", "fpr"),
    [
        ("sensitivity=0.75", 0.75, 0.2),
        ("sensitivity=1", 1.0, 0.4),
        ("fpr=0", 0.25, 0.0),
        ("fpr=0.2", 0.75, 0.2),
        ("fpr=0.39", 0.75, 0.2),
        ("fpr=0.4", 1.0, 0.4),
        ("youden", 1.0, 0.4),
    ],
)
def test_the_threshold_reaches_its_target(target: str, sensitivity: float, fpr: float):
    threshold = choose_threshold(LABELS, SCORES, wanted=parse_operating_target(target))
    assert rates(LABELS, SCORES, threshold) == (sensitivity, fpr)


@given(labels_and_scores, shares)
def test_fpr_is_kept_and_no_lower_score_would_keep_it(pairs: list[tuple[int, float]], share: float):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    if share == 1 or labels.all():
        return
    threshold = choose_threshold(labels, scores, wanted=parse_operating_target(f"fpr={share}"))
    negatives = scores[labels == 0]
    assert np.mean(negatives > threshold) <= share + 1e-9
    lower = negatives[negatives <= threshold]
    if len(lower):
        assert np.mean(negatives >= lower.max()) > share - 1e-9


@given(labels_and_scores)
def test_youden_is_the_best_of_all_thresholds(pairs: list[tuple[int, float]]):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    if len(set(labels.tolist())) < 2:
        return
    threshold = choose_threshold(labels, scores, wanted=parse_operating_target("youden"))
    gains = [np.subtract(*rates(labels, scores, one)) for one in (-1.0, *np.unique(scores))]
    assert np.subtract(*rates(labels, scores, threshold)) == pytest.approx(max(gains))


@pytest.mark.parametrize(("n", "percent"), [(100, 29), (100, 57), (50, 58)])
def test_an_fpr_that_is_a_whole_number_of_bags_is_that_number(n: int, percent: int):
    """0.29 * 100 is 28.999999999999996 in floating point; 29 negative bags may exceed the threshold."""
    assert percent / 100 * n < percent * n // 100
    labels, scores = np.array([1] + [0] * n), np.append(0.5, np.arange(n) / n)
    threshold = choose_threshold(labels, scores, wanted=parse_operating_target(f"fpr={percent / 100}"))
    assert np.sum(scores[1:] > threshold) == percent * n // 100


@pytest.mark.parametrize("labels", [[1, 0, 1, 0], [1, 0, 1, 1, 1, 0, 1, 1]])
def test_of_equally_good_thresholds_youden_takes_the_largest(labels: list[int]):
    """In the second, the gains are 1/6 and 4/6 - 1/2: rounding must not decide."""
    scores = np.linspace(0.9, 0.1, len(labels))
    threshold = choose_threshold(np.array(labels), scores, wanted=parse_operating_target("youden"))
    assert threshold == np.nextafter(0.9, -np.inf)


def test_intervals_are_drawn_by_the_seed():
    first, again, other = (
        set_operating_point(LABELS, SCORES, cases=list("abcdefghi"), target="youden", seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_point_has_its_counts_and_intervals_by_case():
    labels, scores = np.tile(LABELS, 6), np.tile(SCORES, 6)
    cases = [str(i) for i in range(54)]
    point = set_operating_point(labels, scores, cases=cases, target="sensitivity=0.75")
    assert (point.n_positive, point.n_negative) == (24, 30)
    assert point.threshold.value == np.nextafter(0.7, -np.inf)
    assert (point.sensitivity.value, point.fpr.value) == (0.75, 0.2)
    for one in (point.threshold, point.sensitivity, point.fpr):
        assert one.low <= one.value <= one.high
    assert point.threshold.low < 0.31
    assert point.fpr.high > 0.3
    assert point == set_operating_point(labels, scores, cases=cases, target="sensitivity=0.75")


def test_rates_of_0_and_1_have_an_interval():
    """With one slide a case, Wilson's limit of 0 of n is t**2 / (n + t**2); t is 2.0930 for 20 cases."""
    labels = np.repeat([1, 0], [9, 11])
    point = set_operating_point(
        labels, 0.1 + 0.8 * labels, cases=list("abcdefghijklmnopqrst"), target="sensitivity=0.95"
    )
    assert (point.sensitivity.value, point.sensitivity.high) == (1, 1)
    assert point.sensitivity.low == pytest.approx(9 / (9 + 2.0930**2), abs=1e-4)
    assert (point.fpr.value, point.fpr.low) == (0, 0)
    assert point.fpr.high == pytest.approx(2.0930**2 / (11 + 2.0930**2), abs=1e-4)
    few = set_operating_point(labels, 0.1 + 0.8 * labels, cases=list("aaabbbcccdddeeefffgg"), target="youden")
    assert few.sensitivity.low < 0.4, "nine slides of three cases say no more than three"


def test_one_case_gives_no_interval():
    point = set_operating_point(LABELS, SCORES, cases=["a"] * 9, target="sensitivity=0.75")
    assert point.sensitivity.value == 0.75
    assert math.isnan(point.sensitivity.low)
    assert math.isnan(point.fpr.high)


def test_cases_are_drawn_whole():
    """Six copies in one case are no more than one: the interval does not narrow."""
    labels, scores = np.tile(LABELS, 6), np.tile(SCORES, 6)
    by_case = [str(i % 9) for i in range(54)]
    wide = set_operating_point(labels, scores, cases=by_case, target="sensitivity=0.75").fpr
    narrow = set_operating_point(
        labels, scores, cases=list(map(str, range(54))), target="sensitivity=0.75"
    ).fpr
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_fpr_of_nearly_all_lets_everything_through():
    threshold = choose_threshold(
        np.array([1, 0]), np.array([0.2, 0.4]), wanted=parse_operating_target("fpr=0.9")
    )
    assert threshold == 0.4
    assert math.isnan(
        choose_threshold(np.array([1]), np.array([0.2]), wanted=parse_operating_target("fpr=0.9"))
    )


def test_one_label_alone_is_refused():
    with pytest.raises(BagError, match=r"needs bags of both labels; found \[1\]"):
        set_operating_point(np.array([1, 1]), np.array([0.2, 0.4]), cases=["a", "b"], target="youden")


@pytest.mark.parametrize("target", ["sensitivity=0.75", "fpr=0.2", "youden"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 8])
def test_scores_that_are_not_numbers_set_no_threshold(target: str, value: float, position: int):
    scores = SCORES.copy()
    scores[position] = value
    with pytest.raises(BagError, match=r"bag scores: 1 of 9 are not finite; .*lower training\.lr"):
        choose_threshold(LABELS, scores, wanted=parse_operating_target(target))
    with pytest.raises(BagError, match="bag scores: 1 of 9 are not finite"):
        set_operating_point(LABELS, scores, cases=list("abcdefghi"), target=target)


def test_a_point_of_an_earlier_version_loads():
    point = set_operating_point(LABELS, SCORES, cases=[str(i) for i in range(9)], target="fpr=0.2")
    content = point.model_dump(mode="json")
    assert content["target"] == "fpr=0.2"
    content["asked"] = content.pop("target")
    assert OperatingPoint.model_validate(content) == point

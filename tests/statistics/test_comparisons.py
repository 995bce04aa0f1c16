import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.predictions import of_arm, pooled_arms, prediction_rows

from hardmil.bootstrap import percentile_limits, widened_p, widened_tail
from hardmil.evaluation.results import key_of
from hardmil.files.csv_table import read_table, write_table
from hardmil.statistics.comparisons import (
    Comparison,
    bootstrap_p,
    compare,
    compare_arms,
    holm,
    holm_corrected,
    not_comparable,
    usual_pairs,
)
from hardmil.statistics.intervals import ResampledArm, mean_of_defined, resample_arms
from hardmil.statistics.weighted_metrics import RESAMPLED


def _arms(**shifts: float) -> dict[str, ResampledArm]:
    tables = [prediction_rows(name, shift=shift, seed=len(name)) for name, shift in shifts.items()]
    return {one.key[0]: one for one in resample_arms(pooled_arms(*tables), seed=0, n_resamples=300)}


def _one(arm: str, other: str, p: float, *, metric: str = "pooled_auc", patches: str = "grid") -> Comparison:
    return Comparison(arm, other, "case", patches, metric, 0.1, 0.0, 0.2, p, p)


def test_usual_pairs_are_with_the_base_with_ours_and_with_the_control():
    names = ["abmil", "ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance", "abmil+mb", "gated+mb"]
    assert usual_pairs(names) == [
        ("abmil", "ours"),
        ("ours+fmb-oof", "ours"),
        ("ours+fmb-oof", "ours+fmb-oof@random"),
        ("ours+fmb-oof@random", "ours"),
        ("ours+instance", "ours"),
        ("abmil+mb", "abmil"),
    ]
    assert usual_pairs(["abmil", "gated"]) == []


def test_differences_are_paired_by_repeat_and_by_draw():
    arms = _arms(ours=0.5, abmil=2.0)
    ours, abmil = arms["ours"], arms["abmil"]
    for i, one in enumerate(compare(abmil, ours)):
        drawn = [
            sum(abmil.resampled[i, repeat, k] - ours.resampled[i, repeat, k] for repeat in range(2)) / 2
            for k in range(300)
        ]
        assert (one.arm, one.other, one.metric) == ("abmil", "ours", RESAMPLED[i])
        observed = (abmil.observed[i] - ours.observed[i]).mean()
        assert one.difference == pytest.approx(observed)
        assert (one.low, one.high) == pytest.approx(percentile_limits(np.array(drawn), n_cases=9))
        past = min(sum(d <= 1e-12 for d in drawn), sum(d >= -1e-12 for d in drawn))
        assert one.p == pytest.approx(widened_p(min(1, 2 * (past + 1) / 301), n_cases=9))


def test_the_other_way_round_only_the_sign_changes():
    arms = _arms(ours=0.5, abmil=2.0)
    for one, back in zip(
        compare(arms["abmil"], arms["ours"]), compare(arms["ours"], arms["abmil"]), strict=True
    ):
        assert (one.difference, one.low, one.high) == pytest.approx((-back.difference, -back.high, -back.low))
        assert one.p == back.p


def test_an_arm_equals_itself():
    arms = _arms(ours=1.0)
    for one in compare(arms["ours"], arms["ours"]):
        assert (one.difference, one.low, one.high, one.p) == (0, 0, 0, 1)


def test_a_pair_is_closer_than_two_arms_apart():
    """Two arms whose scores share their noise: the interval of the difference is narrower than of each."""
    noisy = prediction_rows("ours", n_cases=30, shift=1.0)
    better = [
        replace(row, bag_score=0.99 if row.label == "tumour" else 0.01) if i % 7 == 0 else row
        for i, row in enumerate(of_arm(noisy, "abmil"))
    ]
    ours, abmil = resample_arms(pooled_arms(noisy, better), seed=0, n_resamples=500)
    accuracy = RESAMPLED.index("pooled_accuracy")
    alone = np.std(mean_of_defined(ours.resampled, axis=1)[accuracy])
    paired = np.std(mean_of_defined(abmil.resampled - ours.resampled, axis=1)[accuracy])
    assert paired < 0.7 * alone


def test_only_arms_on_the_same_slides_and_repeats_are_compared():
    ours = prediction_rows("ours")
    for other in (
        prediction_rows("abmil", repeats=1),
        prediction_rows("abmil")[:-1],
        prediction_rows("abmil", patches="nuclei"),
    ):
        arms = resample_arms(pooled_arms(ours, other), seed=0, n_resamples=5)
        assert compare_arms(arms) == []
        same_cut = key_of(other[0]).patches == "grid"
        assert not_comparable(arms) == ([("abmil", "ours")] if same_cut else [])
        with pytest.raises(ValueError, match=r"'abmil'.*'ours'.* slides or repeats"):
            compare(arms[1], arms[0])
    arms = resample_arms(pooled_arms(ours, prediction_rows("abmil")), seed=0, n_resamples=5)
    assert [one.metric for one in compare_arms(arms)] == list(RESAMPLED)
    assert not_comparable(arms) == []


def test_a_study_with_a_mining_arm_compares_it_with_its_control_too():
    names = ("ours", "ours+mb", "ours+mb@random", "ours+instance")
    tables = [prediction_rows(name, seed=i) for i, name in enumerate(names)]
    found = compare_arms(resample_arms(pooled_arms(*tables), seed=0, n_resamples=400))
    auc = {(one.arm, one.other): one for one in found if one.metric == "pooled_auc"}
    assert list(auc) == [
        ("ours+mb", "ours"),
        ("ours+mb", "ours+mb@random"),
        ("ours+mb@random", "ours"),
        ("ours+instance", "ours"),
    ]
    of_base = [one for one in auc.values() if one.other == "ours"]
    assert [one.p_holm for one in of_base] == holm([one.p for one in of_base])
    control = auc["ours+mb", "ours+mb@random"]
    assert control.is_hard_minus_random
    assert control.p_holm == control.p


def test_p_counts_the_sample_itself_and_is_two_sided():
    def share(values: list[float]) -> float:
        return bootstrap_p(np.array(values), n_cases=10**9)

    assert share([1.0] * 99) == pytest.approx(2 / 100)
    assert share([-1.0] * 99) == pytest.approx(2 / 100)
    assert share([1.0] * 95 + [-1.0] * 3 + [0.0]) == pytest.approx(2 * 5 / 100)
    assert share([1.0, -1.0]) == 1
    assert share([0.1 + 0.2 - 0.3] * 99) == 1, "a tie, but for the rounding of floats"
    assert share([1.0] * 99 + [math.nan] * 50) == pytest.approx(2 / 100)
    assert math.isnan(share([math.nan]))


@given(st.integers(2, 200), st.integers(0, 60))
def test_p_is_below_a_twentieth_where_the_interval_excludes_0(n_cases: int, n_below: int):
    drawn = np.array([-1.0] * n_below + [1.0] * (1999 - n_below))
    low, high = percentile_limits(drawn, n_cases=n_cases)
    p, at_limit = bootstrap_p(drawn, n_cases=n_cases), 2000 * widened_tail(n_cases)
    assert high == 1
    if n_below < at_limit - 2:
        assert p < 0.05
        assert low > 0
    if n_below > at_limit + 1:
        assert p >= 0.05
        assert low < 0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_rejects(p_values: list[float], alpha: float):
    """The definition: from the smallest up, reject while p is at most alpha / (number not yet rejected)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected: set[int] = set()
    for rank, i in enumerate(order):
        if (len(p_values) - rank) * p_values[i] > alpha:
            break
        rejected.add(i)
    corrected = holm(p_values)
    assert {i for i, p in enumerate(corrected) if p <= alpha} == rejected


def test_holm_is_over_one_reference_one_metric_one_setting():
    found = holm_corrected(
        [
            _one("ours+mb", "ours", 0.01),
            _one("ours+sb", "ours", 0.02),
            _one("ours+sb", "ours", 0.02, metric="fpr_op"),
            _one("ours+sb", "ours", 0.02, patches="nuclei"),
            _one("abmil+sb", "abmil", 0.02),
            _one("ours+x", "ours", math.nan),
            _one("ours+mb", "ours+mb@random", 0.03),
            _one("ours+sb", "ours+sb@random", 0.04),
        ]
    )
    corrected = [one.p_holm for one in found]
    np.testing.assert_allclose(corrected, [0.02, 0.02, 0.02, 0.02, 0.02, math.nan, 0.06, 0.06])


def test_rows_of_the_table(tmp_path: Path):
    one = replace(_one("ours+mb", "ours", 0.01), p_holm=0.02)
    write_table(tmp_path / "comparisons.csv", [one], row=Comparison)
    assert read_table(tmp_path / "comparisons.csv", Comparison) == [one]

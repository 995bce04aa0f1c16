"""Resampling of cases against a plain loop that duplicates the rows of every case drawn."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from tests.support.predictions import pooled_arms, prediction_rows

from hardmil.bootstrap import (
    SampleSize,
    draw_cases,
    moving_threshold_limits,
    percentile_limits,
    share_limits,
)
from hardmil.evaluation.results import PredictionRow, TrialKey, key_of
from hardmil.files.csv_table import read_table, write_table
from hardmil.statistics.intervals import (
    SHARE_OF,
    Interval,
    _sample_size,
    intervals,
    mean_of_defined,
    resample_arms,
)
from hardmil.statistics.pooled_predictions import pool_predictions
from hardmil.statistics.summary import pooled_metrics
from hardmil.statistics.weighted_metrics import RESAMPLED

OURS = ("ours", "case", "grid", "")


def _plain_values(rows: list[PredictionRow], counts: dict[str, int]) -> dict[str, float]:
    """Mean over repeats of each metric, after really writing every drawn case's rows as often as drawn."""
    copies = [row for row in rows for _ in range(counts[row.case_id])]
    (repeats,) = pool_predictions(copies, positive="tumour").values()
    measured = [pooled_metrics(repeat) for repeat in repeats]
    return {name: sum(one[name] for one in measured) / len(measured) for name in RESAMPLED}


def _holds(rows: list[PredictionRow]) -> np.ndarray:
    cases = sorted({row.case_id for row in rows})
    found = np.zeros((len(cases), 2), dtype=np.int64)
    for row in rows:
        found[cases.index(row.case_id), int(row.label == "tumour")] = 1
    return found


def test_resamples_are_those_of_a_plain_loop_over_duplicated_rows():
    rows = prediction_rows()
    (one,) = resample_arms(pooled_arms(rows), seed=3, n_resamples=60)
    draws = draw_cases(_holds(rows), seed=3, n_resamples=60)
    means = mean_of_defined(one.resampled, axis=1)
    for number, draw in enumerate(draws):
        counts = {f"c{case}": int(n) for case, n in enumerate(draw)}
        expected = _plain_values(rows, counts)
        for i, name in enumerate(RESAMPLED):
            assert means[i, number] == pytest.approx(expected[name]), name


def test_value_and_limits_of_each_metric():
    rows = prediction_rows()
    arms = resample_arms(pooled_arms(rows), seed=3, n_resamples=200)
    found = intervals(arms)
    assert [one.metric for one in found] == list(RESAMPLED)
    once = _plain_values(rows, {f"c{case}": 1 for case in range(9)})
    means = mean_of_defined(arms[0].resampled, axis=1)
    for i, one in enumerate(found):
        assert (one.arm, one.split, one.patches, one.n_cases, one.n_repeats) == (*OURS[:3], 9, 2)
        assert one.value == pytest.approx(once[one.metric])
        assert (one.low, one.high) == pytest.approx(_expected_limits(one, means[i], rows))
        assert one.low <= one.value <= one.high


def _expected_limits(one: Interval, means: np.ndarray, rows: list[PredictionRow]) -> tuple[float, float]:
    if one.metric == "brier":
        return percentile_limits(means, n_cases=9)
    labels = {"negative": ["normal"], "positive": ["tumour"]}.get(SHARE_OF[one.metric], ["normal", "tumour"])
    here = [row for row in rows if row.label in labels]
    negative, positive = _holds(rows).sum(axis=0).tolist()
    n_cases = {"all": 9, "negative": negative, "positive": positive, "both": min(negative, positive)}
    size = SampleSize(9, n_cases[SHARE_OF[one.metric]], len({row.slide_id for row in here}))
    limits = moving_threshold_limits if one.metric.startswith("fpr_at") else share_limits
    return limits(one.value, means, size=size)


def test_every_metric_but_the_brier_score_is_a_share():
    assert set(RESAMPLED) - set(SHARE_OF) == {"brier"}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    rows = prediction_rows()
    (whole,) = resample_arms(pooled_arms(rows), seed=1, n_resamples=50)
    monkeypatch.setattr("hardmil.statistics.intervals.CHUNK", 40)
    (chunked,) = resample_arms(pooled_arms(rows), seed=1, n_resamples=50)
    np.testing.assert_allclose(whole.resampled, chunked.resampled, rtol=1e-12)


def test_same_seed_same_numbers_whatever_the_other_arms_and_the_order_of_rows():
    rows, other = prediction_rows(), prediction_rows("abmil", seed=5)
    (alone,) = resample_arms(pooled_arms(rows), seed=1, n_resamples=30)
    abmil, ours = resample_arms(pooled_arms(other, rows[::-1]), seed=1, n_resamples=30)
    assert (abmil.key[0], ours.key) == ("abmil", OURS)
    np.testing.assert_array_equal(alone.resampled, ours.resampled)
    (reseeded,) = resample_arms(pooled_arms(rows), seed=2, n_resamples=30)
    assert not np.array_equal(alone.resampled, reseeded.resampled)


def test_a_case_is_drawn_with_all_its_slides():
    """Slides of a case that always agree add nothing: the interval is that of one slide a case."""
    single = [row for row in prediction_rows(n_cases=12, repeats=1) if row.slide_id.endswith("-0")]
    tripled = [replace(row, slide_id=row.slide_id + copy) for row in single for copy in "abc"]
    one, three = (intervals(resample_arms(pooled_arms(rows), seed=0)) for rows in (single, tripled))
    assert [a.low for a in one] == pytest.approx([b.low for b in three])
    assert [a.high for a in one] == pytest.approx([b.high for b in three])


def test_a_share_is_over_the_cases_and_slides_that_it_is_of():
    """Three cases have normal slides, four have tumours, one of them has both; eleven slides in all."""
    slides = {"a": "NNN", "b": "NN", "c": "NT", "d": "TT", "e": "T", "f": "T"}
    rows = [
        PredictionRow(
            TrialKey("ours", "case", "grid", 0, 0),
            f"{case}{i}",
            case,
            {"N": "normal", "T": "tumour"}[kind],
            0.5,
        )
        for case, kinds in slides.items()
        for i, kind in enumerate(kinds)
    ]
    (arm,) = resample_arms(pooled_arms(rows), seed=0, n_resamples=10)
    assert _sample_size(arm, "all") == SampleSize(6, 6, 11)
    assert _sample_size(arm, "negative") == SampleSize(6, 3, 6)
    assert _sample_size(arm, "positive") == SampleSize(6, 4, 5)
    assert _sample_size(arm, "both") == SampleSize(6, 3, 11)


def test_interval_of_a_share_is_that_of_the_binomial():
    """40 independent negative cases, 10 called positive: Wilson's interval of 10 of 40, a little wider."""
    rng = np.random.default_rng(0)
    rows = [
        PredictionRow(
            trial=TrialKey(*OURS[:3], 0, 0),
            slide_id=f"s{i}",
            case_id=f"c{i}",
            label="tumour" if i >= 40 else "normal",
            bag_score=0.9 if i < 10 or i >= 40 else rng.uniform(0, 0.4),
        )
        for i in range(80)
    ]
    found = {one.metric: one for one in intervals(resample_arms(pooled_arms(rows), seed=0, n_resamples=4000))}
    for metric, n_called in (("pooled_fpr", 10), ("pooled_recall", 40)):
        one, of_binomial = found[metric], binomtest(n_called, 40).proportion_ci(method="wilson")
        assert one.value == n_called / 40
        assert one.low == pytest.approx(of_binomial.low, abs=0.01)
        assert one.high == pytest.approx(of_binomial.high, abs=0.01)
    assert found["pooled_recall"].high == 1


def test_a_rate_of_0_does_not_mean_certainty():
    """Six slides of each of ten cases, no false positive: as if ten slides had been seen, not sixty."""
    rows = [
        PredictionRow(
            TrialKey(*OURS[:3], 0, 0), f"s{i}-{k}", f"c{i}", ("normal", "tumour")[i % 2], 0.1 + 0.8 * (i % 2)
        )
        for i in range(20)
        for k in range(6)
    ]
    found = {one.metric: one for one in intervals(resample_arms(pooled_arms(rows), seed=0, n_resamples=50))}
    few = binomtest(0, 10).proportion_ci(method="wilson").high
    assert (found["pooled_fpr"].value, found["pooled_fpr"].low) == (0, 0)
    assert few < found["pooled_fpr"].high < few + 0.05
    assert (found["pooled_auc"].value, found["pooled_auc"].high) == (1, 1)
    assert found["pooled_auc"].low == pytest.approx(1 - found["pooled_fpr"].high)


def test_every_resample_holds_both_classes():
    holds = np.array([[0, 1], *[[1, 0]] * 6])  # one positive case: it is missing from a third of plain draws
    draws = draw_cases(holds, seed=0, n_resamples=500)
    assert (draws[:, 0] > 0).all()
    assert (draws[:, 1:].sum(axis=1) > 0).all()
    assert (draws.sum(axis=1) == 7).all()
    rows = [row for row in prediction_rows(n_cases=4) if row.slide_id.endswith("-0")]
    (one,) = resample_arms(pooled_arms(rows), seed=0, n_resamples=100)
    assert not np.isnan(one.resampled).any()


@pytest.mark.parametrize("keep", [lambda row: row.label == "normal", lambda row: row.case_id == "c2"])
def test_without_two_classes_or_two_cases_there_is_no_interval(keep: Callable[[PredictionRow], bool]):
    rows = [row for row in prediction_rows() if keep(row)]
    found = {one.metric: one for one in intervals(resample_arms(pooled_arms(rows), seed=0))}
    assert math.isnan(found["pooled_accuracy"].low)
    assert 0 <= found["pooled_accuracy"].value <= 1


def test_a_repeat_without_calls_at_the_operating_point_is_left_out():
    rows = [row if key_of(row).repeat == 1 else replace(row, op_prediction="") for row in prediction_rows()]
    found = {one.metric: one for one in intervals(resample_arms(pooled_arms(rows), seed=0, n_resamples=50))}
    (second,) = pooled_arms([row for row in rows if key_of(row).repeat == 1]).values()
    assert found["fpr_op"].value == pytest.approx(pooled_metrics(second[0])["fpr_op"])
    assert found["fpr_op"].n_repeats == 1
    assert found["pooled_fpr"].n_repeats == 2
    assert found["fpr_op"].low <= found["fpr_op"].value
    bare = [replace(row, op_prediction="") for row in rows]
    found = {one.metric: one for one in intervals(resample_arms(pooled_arms(bare), seed=0, n_resamples=50))}
    assert all(math.isnan(x) for x in (found["sens_op"].value, found["sens_op"].low, found["sens_op"].high))
    assert found["sens_op"].n_repeats == 0


def test_rows_of_the_table(tmp_path: Path):
    found = intervals(resample_arms(pooled_arms(prediction_rows()), seed=0, n_resamples=5))
    write_table(tmp_path / "intervals.csv", found, row=Interval)
    back = read_table(tmp_path / "intervals.csv", Interval)
    assert [one.metric for one in back] == list(RESAMPLED)
    assert [one.value for one in back] == pytest.approx([one.value for one in found], rel=1e-8)


def test_means_of_what_is_defined():
    means = mean_of_defined(np.array([[1.0, math.nan, 3.0], [math.nan] * 3]))
    np.testing.assert_array_equal(means, [2.0, math.nan])

"""Resampling of many classes against a plain loop over duplicated rows, and scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE, class_prediction_rows
from tests.support.many_labels import MULTI, multi_prediction_rows

from hardmil.bootstrap import draw_cases
from hardmil.config.task import MACRO, TaskConfig
from hardmil.evaluation.results import PredictionRow
from hardmil.statistics.class_intervals import (
    JOINT,
    KAPPA,
    macro_values,
    resample_class_arms,
    weighted_class_metrics,
)
from hardmil.statistics.class_predictions import PooledClasses, pool_classes
from hardmil.statistics.comparisons import compare_arms
from hardmil.statistics.intervals import intervals, mean_of_defined
from hardmil.statistics.summary import pooled_metrics
from hardmil.statistics.weighted_metrics import RESAMPLED

TASKS = [
    pytest.param(EXCLUSIVE, id="exclusive"),
    pytest.param(WITH_NEGATIVE, id="negative"),
    pytest.param(ORDERED, id="ordered"),
]


def _one(rows: list[PredictionRow], task: TaskConfig) -> list[PooledClasses]:
    (repeats,) = pool_classes(rows, task=task).values()
    return repeats


def _plain_values(rows: list[PredictionRow], counts: dict[str, int], task: TaskConfig) -> dict[str, float]:
    """Mean over repeats of each macro metric, after writing every drawn case's rows as often as drawn."""
    copies = [row for row in rows for _ in range(counts[row.case_id])]
    measured = [
        macro_values([pooled_metrics(one) for one in repeat.branches(task)], repeat=repeat, task=task)
        for repeat in _one(copies, task)
    ]
    return {name: sum(one[name] for one in measured) / len(measured) for name in measured[0]}


@pytest.mark.parametrize("task", TASKS)
def test_resamples_are_those_of_a_plain_loop_over_duplicated_rows(task: TaskConfig):
    rows = class_prediction_rows(task=task)
    arms = resample_class_arms(pool_classes(rows, task=task), task=task, seed=3, n_resamples=40)
    cases = sorted({row.case_id for row in rows})
    holds = np.zeros((len(cases), 3), dtype=np.int64)
    for row in rows:
        holds[cases.index(row.case_id), task.names.index(row.label)] = 1
    draws = draw_cases(holds, seed=3, n_resamples=40)
    means = mean_of_defined(arms[0].resampled, axis=1)
    for number, draw in enumerate(draws):
        expected = _plain_values(rows, dict(zip(cases, draw.tolist(), strict=True)), task)
        for i, name in enumerate(arms[0].metrics):
            assert means[i, number] == pytest.approx(expected[name]), name


@pytest.mark.parametrize("task", TASKS)
def test_joint_metrics_are_scikit_learns(task: TaskConfig):
    repeat = _one(class_prediction_rows(task=task), task)[0]
    weights = np.random.default_rng(0).integers(1, 4, (5, len(repeat.labels))).astype(np.float64)
    found = weighted_class_metrics(repeat, weights=weights, task=task)
    for number, one in enumerate(weights):
        labels, predicted = (np.repeat(x, one.astype(int)) for x in (repeat.labels, repeat.predicted))
        values = dict(zip(JOINT, found[:, number], strict=True))
        assert values["pooled_accuracy"] == pytest.approx(np.mean(labels == predicted))
        assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
        assert values[KAPPA] == pytest.approx(cohen_kappa_score(labels, predicted, weights="quadratic"))


def test_macro_auc_is_scikit_learns():
    repeat = _one(class_prediction_rows(), EXCLUSIVE)[0]
    values = macro_values(
        [pooled_metrics(one) for one in repeat.branches(EXCLUSIVE)], repeat=repeat, task=EXCLUSIVE
    )
    expected = roc_auc_score(repeat.labels, repeat.class_scores, multi_class="ovr", average="macro")
    assert values["pooled_auc"] == pytest.approx(expected)
    assert KAPPA not in values


@pytest.mark.parametrize("task", TASKS)
def test_macro_is_the_mean_over_branches_on_the_same_draws(task: TaskConfig):
    rows = class_prediction_rows(task=task)
    macro, *branches = resample_class_arms(pool_classes(rows, task=task), task=task, seed=1, n_resamples=30)
    assert [one.key.class_name for one in (macro, *branches)] == [MACRO, *task.branch_names]
    for name in ("pooled_auc", "fpr_op", "brier"):
        i = RESAMPLED.index(name)
        np.testing.assert_allclose(
            macro.resampled[i], np.mean([one.resampled[i] for one in branches], axis=0)
        )
    assert (KAPPA in macro.metrics) == task.ordinal
    assert all(one.metrics == RESAMPLED for one in branches)


@pytest.mark.parametrize("task", TASKS)
def test_every_value_has_an_interval_around_it(task: TaskConfig):
    arms = resample_class_arms(
        pool_classes(class_prediction_rows(task=task), task=task), task=task, seed=1, n_resamples=300
    )
    found = intervals(arms)
    assert len(found) == len(RESAMPLED) * (1 + task.n_branches) + task.ordinal
    for one in found:
        assert one.low <= one.value <= one.high, one
        assert one.n_cases == 12


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    pooled = pool_classes(class_prediction_rows(task=ORDERED), task=ORDERED)
    whole = resample_class_arms(pooled, task=ORDERED, seed=1, n_resamples=50)
    for module in ("intervals", "class_intervals"):
        monkeypatch.setattr(f"hardmil.statistics.{module}.CHUNK", 40)
    chunked = resample_class_arms(pooled, task=ORDERED, seed=1, n_resamples=50)
    for one, other in zip(whole, chunked, strict=True):
        np.testing.assert_allclose(one.resampled, other.resampled, rtol=1e-12)


def test_arms_are_compared_class_by_class_and_corrected_apart_from_the_means():
    arms = ("ours", "abmil", "ours+mb")
    rows = [row for k, arm in enumerate(arms) for row in class_prediction_rows(arm, seed=k, task=ORDERED)]
    drawn = resample_class_arms(pool_classes(rows, task=ORDERED), task=ORDERED, seed=0, n_resamples=200)
    found = [one for one in compare_arms(drawn) if one.metric == "pooled_auc"]
    assert {one.class_name for one in found} == {MACRO, "low", "high"}
    macro = sorted((one for one in found if one.class_name == MACRO), key=lambda one: one.p)
    assert macro[0].p_holm == pytest.approx(min(1, 2 * macro[0].p))
    of_classes = sorted((one for one in found if one.class_name != MACRO), key=lambda one: one.p)
    assert of_classes[0].p_holm == pytest.approx(min(1, 4 * of_classes[0].p))
    kappa = [one for one in compare_arms(drawn) if one.metric == KAPPA]
    assert {one.class_name for one in kappa} == {MACRO}
    assert len(kappa) == 2


def test_without_an_operating_point_of_one_class_only_its_rates_are_unknown():
    rows = class_prediction_rows(knows_op=False)
    drawn = resample_class_arms(pool_classes(rows, task=EXCLUSIVE), task=EXCLUSIVE, seed=0, n_resamples=20)
    values = {(one.class_name, one.metric): one.value for one in intervals(drawn)}
    assert math.isnan(values["normal", "fpr_op"])
    assert not math.isnan(values["b", "fpr_op"])


def test_joint_metrics_of_several_labels_are_exact_matches_and_means_over_classes():
    rows = multi_prediction_rows()
    repeat = _one(rows, MULTI)[0]
    weights = np.random.default_rng(0).integers(0, 4, (5, len(repeat.labels))).astype(np.float64)
    found = weighted_class_metrics(repeat, weights=weights, task=MULTI)
    for number, one in enumerate(weights):
        drawn = np.repeat(np.arange(len(one)), one.astype(int))
        labels, predicted = repeat.labels[drawn], repeat.predicted[drawn]
        assert found[0, number] == pytest.approx(np.mean(labels == predicted))
        by_class = [
            balanced_accuracy_score(MULTI.answers(labels)[:, k], MULTI.answers(predicted)[:, k])
            for k in range(3)
        ]
        assert found[1, number] == pytest.approx(np.mean(by_class))
    assert np.isnan(found[2]).all()


def test_means_over_several_labels_are_of_the_same_draws_in_which_each_answer_occurs():
    rows = multi_prediction_rows()
    macro, *classes = resample_class_arms(pool_classes(rows, task=MULTI), task=MULTI, seed=3, n_resamples=40)
    assert [one.key.class_name for one in (macro, *classes)] == [MACRO, *MULTI.names]
    assert macro.metrics == RESAMPLED
    for i, name in enumerate(RESAMPLED):
        if name != "pooled_accuracy":
            means = np.mean([one.resampled[i] for one in classes], axis=0)
            np.testing.assert_allclose(macro.resampled[i], means, err_msg=name)
    assert not any(np.isnan(one.resampled).any() for one in classes)

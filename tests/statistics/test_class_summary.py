import math

import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, class_trial_rows

from hardmil.config.task import MACRO
from hardmil.statistics.class_intervals import KAPPA
from hardmil.statistics.class_predictions import pool_classes
from hardmil.statistics.class_summary import pooled_names, summarise_classes
from hardmil.statistics.summary import POOLED, pooled_metrics


def test_of_each_arm_the_means_come_first_then_the_classes():
    rows = class_trial_rows(("ours", "ours+mb"), task=ORDERED)
    found = summarise_classes(rows.results, predictions=rows.predictions, task=ORDERED)
    assert [(one.arm, one.class_name) for one in found] == [
        (arm, name) for arm in ("ours", "ours+mb") for name in (MACRO, "low", "high")
    ]
    macro, low, _ = found[:3]
    assert macro.values["accuracy"].mean == pytest.approx(0.5)
    assert math.isnan(low.values["accuracy"].mean)
    (repeats,) = pool_classes(rows.predictions[: len(rows.predictions) // 2], task=ORDERED).values()
    expected = [pooled_metrics(one.branches(ORDERED)[0])["pooled_auc"] for one in repeats]
    assert low.by_repeat["pooled_auc"] == pytest.approx(expected)


def test_only_ordered_classes_have_a_kappa():
    assert pooled_names(EXCLUSIVE) == POOLED
    assert pooled_names(ORDERED) == (*POOLED, KAPPA)
    rows = class_trial_rows(task=ORDERED)
    macro, low, _ = summarise_classes(rows.results, predictions=rows.predictions, task=ORDERED)
    assert -1 <= macro.values[KAPPA].mean <= 1
    assert math.isnan(low.values[KAPPA].mean)

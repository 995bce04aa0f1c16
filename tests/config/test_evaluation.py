import math
from typing import get_args

import pytest
from pydantic import ValidationError

from hardmil.config.evaluation import (
    CalibrationMethod,
    EvaluationConfig,
    calibration_fault,
    parse_operating_target,
)
from hardmil.config.study import StudyConfig
from hardmil.config.task import TWO_CLASSES, TaskConfig


def test_an_operating_point_is_a_kind_and_a_share():
    assert parse_operating_target("sensitivity=0.95") == ("sensitivity", 0.95)
    assert parse_operating_target("sensitivity=1") == ("sensitivity", 1.0)
    assert parse_operating_target("fpr=0") == ("fpr", 0.0)
    kind, share = parse_operating_target("youden")
    assert kind == "youden"
    assert math.isnan(share)


@pytest.mark.parametrize("text", ["sensitivity=0", "sensitivity=1.2", "fpr=1", "fpr=x", "best", "0.5", ""])
def test_other_operating_points_are_refused(text: str):
    with pytest.raises(ValueError, match=r"sensitivity=.*fpr=.*youden"):
        parse_operating_target(text)
    with pytest.raises(ValidationError, match="operating_point"):
        EvaluationConfig(operating_point=text)


def test_each_kind_of_classes_has_its_calibrations():
    exclusive = TaskConfig(names=("a", "b", "c"))
    ordered = TaskConfig(names=("a", "b", "c"), ordinal=True)
    possible = {
        task: {one for one in get_args(CalibrationMethod) if calibration_fault(one, task=task) is None}
        for task in (TWO_CLASSES, exclusive, ordered)
    }
    assert possible == {
        TWO_CLASSES: {"none", "temperature", "isotonic"},
        exclusive: {"none", "temperature", "vector"},
        ordered: {"none", "temperature"},
    }


def test_a_study_names_the_calibrations_of_its_classes():
    study = {"classes": ["a", "b", "c"], "evaluation": {"calibration": "isotonic"}}
    with pytest.raises(ValueError, match="is isotonic, which is not for 3 classes; expected none, temp"):
        StudyConfig.model_validate(study)
    assert StudyConfig.model_validate(study | {"evaluation": {"calibration": "vector"}})

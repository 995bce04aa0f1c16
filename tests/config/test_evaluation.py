import math

import pytest
from pydantic import ValidationError

from hardmil.config.evaluation import EvaluationConfig, parse_operating_target


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

import pytest
from pydantic import ValidationError

from hardmil.config.mining import MiningConfig, parse_sensitivity


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [("sensitivity=0.95", 0.95), ("sensitivity=.9", 0.9), ("sensitivity=1", 1.0), (0.5, None), (0.0, None)],
)
def test_wanted_sensitivity(threshold: float | str, expected: float | None):
    assert parse_sensitivity(threshold) == expected


@pytest.mark.parametrize(
    "threshold", ["sensitivity=0", "sensitivity=1.5", "specificity=0.9", "0.5", 1.5, -0.1]
)
def test_other_thresholds_are_refused(threshold: float | str):
    with pytest.raises(ValueError, match=r"score from 0 to 1 or .*sensitivity"):
        parse_sensitivity(threshold)
    with pytest.raises(ValidationError, match="threshold"):
        MiningConfig(threshold=threshold)

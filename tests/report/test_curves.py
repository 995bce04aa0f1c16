from dataclasses import replace

from hardmil.evaluation.results import PredictionRow, TrialKey
from hardmil.report.curves import arms_drawn, calibration_drawing


def test_of_many_arms_the_curves_show_the_base_the_arm_and_its_control():
    few = ["ours", "ours+sb", "ours+sb@random", "mean"]
    assert arms_drawn(few, arm="ours+sb") == few
    many = [*few, "ours+fmb", "ours+fmb@random", "max"]
    assert arms_drawn(many, arm="ours+fmb") == ["ours", "ours+fmb", "ours+fmb@random"]
    assert arms_drawn(many, arm="mean") == ["mean"]


def prediction(repeat: int, label: str, score: float, probability: float) -> PredictionRow:
    trial = TrialKey("ours", "case", "grid", repeat, 0)
    return PredictionRow(trial, "s", "c", label, score, probabilities={"$x": probability})


def test_calibration_shows_one_line_where_nothing_was_calibrated():
    raw = [prediction(i, label, 0.75, 0.75) for i in range(2) for label in ("$x", "no")]
    drawn = calibration_drawing(raw, arm="ours", positive="$x")
    assert drawn is not None
    assert "Bag score: calibration error 0.250, Brier score 0.312" in drawn.caption
    assert "not calibrated" in drawn.caption
    assert "0.75, 0.50, 4" in drawn.alt
    both = calibration_drawing(
        [replace(one, probabilities={"$x": 0.5}) for one in raw], arm="ours", positive="$x"
    )
    assert both is not None
    assert "Calibrated probability: calibration error 0.000, Brier score 0.250" in both.caption
    assert "raw bag score: calibration error 0.250" in both.caption
    assert calibration_drawing(raw, arm="mean", positive="$x") is None

from pathlib import Path

from tests.support.studies import Hardmil


def test_features_and_pixels_are_not_confused(hardmil: Hardmil, feature_study: Path) -> None:
    run = hardmil("encode", feature_study)
    assert run.code == 1
    assert "reads features from feats" in run.err

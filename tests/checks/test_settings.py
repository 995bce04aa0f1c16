"""`check_settings`: what the settings of a study name is there, or a failure says what is missing."""

from pathlib import Path

import pytest

from hardmil.checks.settings import check_settings
from hardmil.preprocessing.study_folder import open_study


def _failures(study: Path, *settings: str) -> list[tuple[str, str]]:
    return [(one.name, one.message) for one in check_settings(open_study(study, overrides=settings))]


def test_a_sound_study_has_no_failures(study: Path, feature_study: Path):
    assert _failures(study) == _failures(feature_study) == []
    assert _failures(study, "encode=efficientnet-lite0", "encode_px=32") == []


@pytest.mark.parametrize(
    ("setting", "name", "message"),
    [
        ("device=cuda:7", "device", "device cuda:7: not usable on this machine"),
        ("encode=no_such_module:embed", "encoder", "encode: no_such_module:embed"),
        ("encode=missing.onnx", "encoder", "missing.onnx"),
    ],
)
def test_a_missing_device_or_encoder_is_named(study: Path, setting: str, name: str, message: str):
    ((found, said),) = _failures(study, setting)
    assert found == name
    assert message in said

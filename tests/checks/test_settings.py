"""`check_settings`: what the settings of a study name is there, or a failure says what is missing."""

from pathlib import Path

import pytest

from hardmil.checks.settings import check_settings
from hardmil.preprocessing.study_folder import open_study


def _failures(study: Path, *settings: str) -> list[tuple[str, str]]:
    return [
        (one.name, one.message) for one in check_settings(open_study(study, overrides=settings), quiet=True)
    ]


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


def test_missing_and_damaged_feature_files_are_named(feature_study: Path):
    (feature_study / "feats" / "s3.h5").unlink()
    (feature_study / "feats" / "s5.h5").write_bytes(b"not HDF5")
    failures = dict(_failures(feature_study))
    assert set(failures) == {"s3", "s5"}
    assert "no feature file" in failures["s3"]


def test_one_feature_file_under_two_names_is_named(feature_study: Path):
    feats = feature_study / "feats"
    (feats / "s5.h5").write_bytes((feats / "s3.h5").read_bytes())
    ((name, message),) = _failures(feature_study)
    assert name == "s5"
    assert "identical to those of s3" in message

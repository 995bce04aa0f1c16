from pathlib import Path

import yaml
from tests.support.studies import Hardmil

from hardmil.config.study import StudyConfig


def test_init_writes_a_commented_study_and_keeps_what_is_there(hardmil: Hardmil, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert hardmil("init", folder).code == 0
    text = (folder / "study.yaml").read_text(encoding="utf-8")
    assert StudyConfig.model_validate(yaml.safe_load(text)) == StudyConfig()
    assert text.count("#") > 40
    (folder / "slides.csv").write_text("mine", encoding="utf-8")
    again = hardmil("init", folder)
    assert "kept" in again.out
    assert (folder / "slides.csv").read_text(encoding="utf-8") == "mine"


def test_init_refuses_a_file(hardmil: Hardmil, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    run = hardmil("init", tmp_path / "file")
    assert run.code == 1
    assert "is a file" in run.err

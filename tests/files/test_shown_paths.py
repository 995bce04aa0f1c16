"""Paths in records are relative to the study, or only a name."""

from pathlib import Path

import pytest

from hardmil.files.shown_paths import shown_paths, without_home


def test_paths_of_the_study_become_relative_and_others_a_name(tmp_path: Path):
    study = tmp_path / "jdoe" / "study"
    (study / "feats").mkdir(parents=True)
    known = {
        str(study / "feats"): "feats",
        str(study): ".",
        str(tmp_path / "jdoe" / "enc.pt2"): "enc.pt2",
        f"--output={tmp_path}/jdoe/out": "--output=out",
        f"features={study}/feats": "features=feats",
        "~/enc.pt2": "enc.pt2",
        "../jdoe/enc.pt2": "enc.pt2",
    }
    assert {text: shown_paths(text, below=study) for text in known} == known
    assert shown_paths(study / "feats", below=study) == "feats"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "main",
        "timm:org/model",
        "module:embed",
        "feats",
        "patches.mpp=0.5",
        "ours+fmb-oof@random",
        "a = b",
    ],
)
def test_other_text_stays(tmp_path: Path, text: str):
    assert shown_paths(text, below=tmp_path) == text


def test_a_relative_path_to_something_outside_of_the_study_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "jdoe" / "study").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shown_paths("jdoe/study", below=tmp_path / "other") == "study"
    assert shown_paths("jdoe/none", below=tmp_path / "other") == "jdoe/none", "a name, not a path"


def test_nested_values_keep_their_form(tmp_path: Path):
    value = {"a": [str(tmp_path / "x"), 3, None, True], "b": {"c": ("d", 0.5)}}
    assert shown_paths(value, below=tmp_path) == {"a": ["x", 3, None, True], "b": {"c": ["d", 0.5]}}


def test_the_home_folder_is_a_tilde(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/jdoe")
    assert without_home('File "/home/jdoe/a.py"; /home/jdoe/b') == 'File "~/a.py"; ~/b'
    monkeypatch.setenv("HOME", "/")
    assert without_home("/a/b") == "/a/b"

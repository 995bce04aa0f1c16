"""What leaves: no patient fields of slides, no home folders, and with --deidentify no ids."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydicom import dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.uid import JPEGBaseline8Bit, RLELossless, generate_uid
from tests.support.dicom import write_instance
from tests.support.studies import Hardmil, quick, read_csv, write_csv

from hardmil.bags.pseudonyms import KEY, TABLE
from hardmil.files.atomic import visible

pytestmark = pytest.mark.slow

PERSONAL = (
    *(
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "OtherPatientNames",
        "PatientComments",
        "IssuerOfPatientID",
    ),
    *(
        "PatientAddress",
        "PatientMotherBirthName",
        "AccessionNumber",
        "StudyID",
        "StudyDescription",
        "StudyDate",
    ),
    *(
        "SeriesDescription",
        "InstitutionName",
        "InstitutionAddress",
        "InstitutionalDepartmentName",
        "StationName",
    ),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
    *("RequestingPhysician", "DeviceSerialNumber", "ProtocolName", "ContainerIdentifier", "BarcodeValue"),
    *("LabelText", "ImageComments", "AdmissionID", "CurrentPatientLocation", "ContentCreatorName"),
)
"""Fields of DICOM that name a patient, or who made the slide, where and when."""
DATES = {"PatientBirthDate": "19231105", "StudyDate": "19870713"}
MARK = "Qxzvkj"
"""Too long to occur by chance in a picture that a page contains as base64."""
APERIO = (
    "Aperio Image Library v11.2.1\r\n300x200 [0,0 300x200] (64x64) RAW|AppMag = 20|MPP = 0.5|"
    f"User = {MARK}User|Filename = {MARK}File|ScanScope ID = {MARK}Scope|Date = 07/13/87|Title = {MARK}Title"
)
PIXELS = (
    "arm: ours\npatches: {um_per_px: null, size_px: 24}\n"
    "evaluation: {folds: 2, operating_folds: 2, arms: [ours]}\n"
)


def _value(field: str) -> str:
    """A value that occurs nowhere else; short enough for every field."""
    return DATES.get(field, f"{MARK}{field}"[:16])


def _tissue(seed: int, *, positive: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rgb = rng.normal((170, 90, 160), 25, (200, 300, 3)).clip(0, 255).astype(np.uint8)
    if positive:
        rgb[40:120:4, 40:160:4] = (40, 10, 60)
    return rgb


def _write_dicom(path: Path, rgb: np.ndarray, *, seed: int) -> None:
    series, syntax = generate_uid()[:40].rstrip("."), (JPEGBaseline8Bit, RLELossless)[seed % 2]
    write_instance(path, rgb, mpp=0.5, kind="NONE", series=series, syntax=syntax)
    dataset = dcmread(path)
    for field in PERSONAL:
        assert dictionary_VR(field)
        setattr(dataset, field, _value(field))
    dcmwrite(path, dataset, enforce_file_format=True)


def _write_svs(path: Path, rgb: np.ndarray) -> None:
    """A slide as Aperio's, with label and macro image."""
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(rgb, tile=(64, 64), photometric="rgb", description=APERIO, metadata=None)
        for kind, number in (("thumbnail", 0), ("label", 1), ("macro", 9)):
            picture = np.full((40, 50, 3), number, np.uint8)
            text = f"Aperio\r\n{kind} 50x40 {MARK}"
            tiff.write(picture, photometric="rgb", subfiletype=number, description=text, metadata=None)


def _study(folder: Path, *, dicom: bool) -> Path:
    (folder / "slides").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for i in range(8):
        path = folder / "slides" / f"{i}.{'dcm' if dicom else 'svs'}"
        rgb = _tissue(i, positive=i % 2 == 1)
        if dicom:
            _write_dicom(path, rgb, seed=i)
        else:
            _write_svs(path, rgb)
        label = "tumour" if i % 2 else "normal"
        rows.append({"slide_id": f"s{i}", "case_id": f"c{i}", "label": label, "path": f"slides/{path.name}"})
    write_csv(folder / "slides.csv", rows)
    (folder / "study.yaml").write_text(PIXELS, encoding="utf-8")
    return folder


def _outputs(folder: Path) -> list[Path]:
    """All files below a folder, without its slides."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if "slides" not in path.relative_to(folder).parts]


def _holding(folder: Path, *texts: str) -> list[str]:
    """The outputs with one of the texts in their name or content, as UTF-8 or UTF-16."""
    words = [text.encode(code) for text in texts for code in ("utf-8", "utf-16-le")]
    return [
        str(path.relative_to(folder))
        for path in _outputs(folder)
        if any(text in str(path.relative_to(folder)) for text in texts)
        or any(word in path.read_bytes() for word in words)
    ]


def _run_all(hardmil: Hardmil, study: Path) -> None:
    slide = next(visible((study / "slides").iterdir()).__iter__())
    for command in ("patch", "encode", "train", "evaluate", "mine"):
        run = hardmil(command, study, *quick())
        assert run.code == 0, run.err
    run = hardmil("predict", study / "bundle", slide, "--output", study / "predictions", "--ome-tiff")
    assert run.code == 0, run.err


@pytest.mark.parametrize("dicom", [True, False], ids=["dicom", "svs"])
def test_fields_of_a_slide_are_never_copied(
    hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dicom: bool
) -> None:
    import openslide

    def refuse(slide: object) -> None:
        raise AssertionError("the label or the macro image was read")

    study = _study(tmp_path / "study", dicom=dicom)
    if not dicom:
        with openslide.OpenSlide(study / "slides" / "0.svs") as slide:
            assert slide.properties["aperio.User"] == f"{MARK}User"
            assert {*slide.associated_images} >= {"label", "macro"}
    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    _run_all(hardmil, study)
    slide = study / "slides" / ("0.dcm" if dicom else "0.svs")
    values = [*DATES.values(), MARK] if dicom else [MARK, "07/13/87"]
    assert all(value.encode() in slide.read_bytes() for value in values), "they are in the slide"
    assert len(_outputs(study)) > 50
    assert _holding(study, *values) == []


def test_no_output_names_the_home_folder(
    hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "homes" / "jdoe-user"
    monkeypatch.setenv("HOME", str(home))
    study = _study(home / "work" / "study", dicom=False)
    rows = read_csv(study / "slides.csv")
    rows[0]["path"] = str(study / "slides" / "missing.svs")
    rows[1]["path"] = str(study / "slides" / "damaged.svs")
    (study / "slides" / "damaged.svs").write_bytes(b"II*\0 not a slide")
    write_csv(study / "slides.csv", [{**row} for row in rows])
    more = ("--set", f"features={home}/feats", "--set", "features=null")
    for command in ("patch", "encode", "train", "evaluate", "mine"):
        assert hardmil(command, study, *quick(), *more).code in (0, 1)
    slides = [study / "slides" / name for name in ("2.svs", "damaged.svs", "missing.svs")]
    run = hardmil("predict", study / "bundle", *slides, f"--output={study / 'predictions'}")
    assert run.code == 1
    assert (study / "runs" / "main" / "report.html").exists()
    assert (study / "predictions" / "failures.log").exists()
    (study / "slides.csv").unlink()  # the user's own
    assert _holding(study, str(home), "jdoe-user") == []
    record = json.loads((study / "predictions" / "run.json").read_text())
    assert record["config"]["bundle"] == "bundle"
    assert record["arguments"][:3] == ["predict", "bundle", "slides/2.svs"]
    assert record["arguments"][-1] == "--output=predictions"


def _named(study: Path) -> Path:
    """The study of eight slides with a name in each id and file."""
    rows = read_csv(study / "slides.csv")
    for number, row in enumerate(rows):
        path = study / row["path"]
        to = path.with_stem(f"{MARK}file{number}")
        shutil.move(path, to)
        row |= {
            "slide_id": f"{MARK}-{number}",
            "case_id": f"{MARK}patient-{number}",
            "path": f"slides/{to.name}",
        }
    write_csv(study / "slides.csv", [{**row} for row in rows])
    return study


def _numbers(path: Path) -> list[dict[str, str]]:
    left_out = ("slide_id", "case_id", "config_hash", "seconds")
    return [{key: value for key, value in row.items() if key not in left_out} for row in read_csv(path)]


def test_deidentified_outputs_hold_no_id(hardmil: Hardmil, study: Path) -> None:
    study = _named(study)
    for command in ("encode", "train"):
        assert hardmil(command, study, *quick()).code == 0
    (study / "bags" / f"{MARK}-6.h5").unlink(missing_ok=True)
    for flag in ((), ("--deidentify",)):
        assert hardmil("evaluate", study, *quick(), *flag).code == 0
        assert hardmil("mine", study, *quick(), *flag).code == 0
    mined, run = study / "mined-deidentified", study / "runs" / "main-deidentified"
    assert _holding(run, MARK) == _holding(mined, MARK) == []
    assert _holding(study / "runs" / "main", MARK) != [], "the test can fail"
    originals = {row["pseudonym"]: row["original"] for row in read_csv(study / TABLE)}
    assert len(originals) == 16
    for name in ("results.csv", "predictions.csv"):
        assert _numbers(run / name) == _numbers(study / "runs" / "main" / name)
    plain, hidden = (read_csv(study / "runs" / one / "predictions.csv") for one in ("main", run.name))
    assert [originals[row["slide_id"]] for row in hidden] == [row["slide_id"] for row in plain]
    assert [originals[row["case_id"]] for row in hidden] == [row["case_id"] for row in plain]


def test_a_deidentified_prediction_holds_no_id_and_the_key_stays(
    hardmil: Hardmil, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _named(study)
    for command in ("encode", "train"):
        assert hardmil(command, study, *quick()).code == 0
    slides = sorted((study / "slides").iterdir())[:3]
    slides[2].write_bytes(b"not a picture")
    monkeypatch.chdir(tmp_path)
    run = hardmil("predict", study / "bundle", *slides, "--ome-tiff", "--deidentify")
    assert run.code == 1
    assert f"{MARK}file2" in run.err, "the terminal says which slide failed, and why"
    output = tmp_path / "predictions-deidentified"
    assert _holding(output, MARK) == []
    assert {path.name for path in visible(output.iterdir())} > {
        "attention",
        "geojson",
        "heatmaps",
        "failures.csv",
    }
    originals = {row["pseudonym"]: row["original"] for row in read_csv(study / TABLE)}
    rows = read_csv(output / "predictions.csv")
    assert [originals[row["slide_id"]] for row in rows] == [f"{MARK}file0", f"{MARK}file1"]
    assert {path.stem for path in (output / "geojson").iterdir()} == {row["slide_id"] for row in rows}
    assert (study / KEY).exists()
    again = hardmil("predict", study / "bundle", *slides[:2], "--deidentify", "--output", output)
    assert again.code == 0, again.err
    assert [row["slide_id"] for row in read_csv(output / "predictions.csv")] == [
        row["slide_id"] for row in rows
    ]


def test_deidentified_output_does_not_go_to_a_folder_with_ids(hardmil: Hardmil, study: Path) -> None:
    for command in ("encode", "train"):
        assert hardmil(command, study, *quick()).code == 0
    slide, output = study / "slides" / "000 a.png", study / "out"
    assert hardmil("predict", study / "bundle", slide, "--output", output).code == 0
    run = hardmil("predict", study / "bundle", slide, "--output", output, "--deidentify")
    assert "may not be de-identified" in run.err
    run = hardmil("predict", study / "bundle", slide, "--output", study.parent / "new" / "..", "--deidentify")
    assert run.code == 1

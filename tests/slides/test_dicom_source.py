import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageCms
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid
from tests.support.dicom import RGB, write_dicom, write_instance
from tests.support.needles import COARSE
from tests.support.needles import RGB as NEEDLE

from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.slides.dicom_source import DicomSource, _header, series_of
from hardmil.slides.level_source import Level
from hardmil.slides.openslide_source import OpenSlideSource
from hardmil.slides.reader import open_slide, open_source


@pytest.mark.parametrize(
    ("syntax", "kind", "tolerance"),
    [
        (JPEGBaseline8Bit, OpenSlideSource, 5),
        (ExplicitVRLittleEndian, OpenSlideSource, 0),
        (RLELossless, DicomSource, 0),
    ],
    ids=["jpeg", "raw", "rle"],
)
def test_folder_of_instances_is_one_slide(tmp_path: Path, syntax: UID, kind: type, tolerance: float):
    folder = write_dicom(tmp_path / "slide 1 ä", syntax=syntax)
    with closing(open_source(folder)) as source:
        assert isinstance(source, kind)
    with open_slide(folder) as slide:
        assert slide.mpp == pytest.approx(0.5)
        assert slide.levels == (Level(300, 200, Downsample(1.0, 1.0)), Level(150, 100, Downsample(2.0, 2.0)))
        found = slide.read(0, 0, 300, 200).astype(int)
        coarse = slide.read(100, 80, 50, 60, 1).astype(int)
        outside = slide.read(-10, 190, 30, 20)
    assert np.abs(found - RGB).mean() <= tolerance
    assert np.abs(coarse - RGB[::2, ::2][40:100, 50:100]).mean() <= tolerance
    assert (outside[:, :10] == 255).all()
    assert (outside[10:] == 255).all()
    assert np.abs(outside[:10, 10:].astype(int) - RGB[190:200, :20]).mean() <= tolerance


@pytest.mark.parametrize(
    ("syntax", "kind", "tolerance"),
    [(ExplicitVRLittleEndian, OpenSlideSource, 25), (RLELossless, DicomSource, 0)],
    ids=["openslide", "wsidicom"],
)
def test_each_axis_has_its_own_factor(tmp_path: Path, syntax: UID, kind: type, tolerance: int):
    """One factor for both would read 8 or 16 px too high at the end of the needle, where noise is unlike."""
    folder, series = tmp_path / "needle", generate_uid()[:40].rstrip(".")
    folder.mkdir()
    for name, rgb, mpp, image_kind in (("fine", NEEDLE, 0.5, "NONE"), ("coarse", COARSE, 1.0, "RESAMPLED")):
        write_instance(folder / f"{name}.dcm", rgb, mpp=mpp, kind=image_kind, series=series, syntax=syntax)
    with closing(open_source(folder)) as source:
        assert isinstance(source, kind)
    with open_slide(folder) as slide:
        assert slide.levels[1].downsample == (61 / 30, 2.0)
        found = slide.read(0, 1960, 30, 20, 1).astype(int)
    assert np.abs(found - COARSE[980:]).mean() <= tolerance


def test_one_instance_is_a_slide_too(tmp_path: Path):
    folder = write_dicom(tmp_path / "slide", syntax=RLELossless)
    with open_slide(folder / "fine.dcm") as slide:
        assert slide.levels == (Level(300, 200, Downsample(1.0, 1.0)),)
        np.testing.assert_array_equal(slide.read(140, 90, 20, 20), RGB[90:110, 140:160])


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, RLELossless], ids=["openslide", "wsidicom"])
def test_folder_of_two_series_is_refused(tmp_path: Path, syntax: UID):
    """One of two slides in a folder was read, without a word."""
    folder = write_dicom(tmp_path / "both", syntax=syntax)
    write_instance(folder / "other.dcm", RGB, mpp=0.5, kind="NONE", series="1.2.3", syntax=syntax)
    with pytest.raises(
        SlideError, match=r"both: holds 2 DICOM series: .*1\.2\.3\.2 \(other\.dcm\).*one slide"
    ):
        open_slide(folder)
    with open_slide(folder / "other.dcm") as slide:
        assert len(slide.levels) == 1
    assert series_of(folder / "other.dcm") == "1.2.3.2"
    assert series_of(folder / "fine.dcm") == series_of(folder / "coarse.dcm") != "1.2.3.2"


def test_file_that_is_not_dicom_has_no_series(tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(b"no slide")
    assert series_of(tmp_path / "a.dcm") is None
    assert series_of(tmp_path / "missing.dcm") is None


def test_instance_without_the_width_of_the_finest_level_is_damaged(tmp_path: Path):
    folder = write_dicom(tmp_path / "slide", syntax=RLELossless)
    with pytest.raises(LookupError, match="no instance is 77 px wide"):
        _header([folder / "fine.dcm"], width_px=77)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, RLELossless], ids=["openslide", "wsidicom"])
def test_folder_without_its_finest_instance_is_named(tmp_path: Path, syntax: UID):
    folder = write_dicom(tmp_path / "slide", syntax=syntax)
    (folder / "fine.dcm").unlink()
    with pytest.raises(SlideError, match=r"slide: its finest instance is downsampled .*copy the missing"):
        open_slide(folder)


def test_hidden_file_is_not_an_instance(tmp_path: Path):
    """A copy in progress, as rsync and others write it."""
    folder = write_dicom(tmp_path / "slide", syntax=RLELossless)
    whole = (folder / "fine.dcm").read_bytes()
    (folder / ".fine.dcm.x7Qk2b").write_bytes(whole[: len(whole) // 2])
    with open_slide(folder) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 300, 200), RGB)


def test_folder_without_dicom_is_named(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no slide here")
    with pytest.raises(SlideError, match="is a folder without a DICOM file"):
        open_slide(tmp_path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, RLELossless], ids=["openslide", "wsidicom"])
def test_truncated_instance_is_read_correctly_or_named(tmp_path: Path, share: float, syntax: UID):
    folder = write_dicom(tmp_path / "slide", syntax=syntax)
    with open_slide(folder) as slide:
        expected = slide.read(0, 0, 300, 200)
    whole = (folder / "fine.dcm").read_bytes()
    (folder / "fine.dcm").write_bytes(whole[: int(len(whole) * share)])
    found = whole_or_error(folder)
    if isinstance(found, str):
        assert str(folder) in found
    else:
        np.testing.assert_array_equal(found, expected)


def whole_or_error(folder: Path) -> np.ndarray | str:
    """All pixels, or the error message."""
    try:
        with open_slide(folder) as slide:
            return slide.read(0, 0, 300, 200)
    except SlideError as error:
        return str(error)


def test_missing_wsidicom_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_dicom(tmp_path / "slide", syntax=RLELossless)
    monkeypatch.setitem(sys.modules, "wsidicom", None)
    with pytest.raises(SlideError, match=r"Unsupported transfer syntax.*pip install 'hardmil\[dicom\]'"):
        open_slide(folder)


def test_closed_slide_is_not_read(tmp_path: Path):
    slide = open_slide(write_dicom(tmp_path / "slide", syntax=RLELossless))
    slide.close()
    slide.close()
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read(0, 0, 5, 5)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, RLELossless], ids=["openslide", "wsidicom"])
def test_colour_profile_is_found(tmp_path: Path, syntax: UID):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with open_slide(write_dicom(tmp_path / "slide", syntax=syntax, icc=profile)) as slide:
        assert slide.icc_profile is not None
        assert len(slide.icc_profile) in (len(profile), len(profile) + len(profile) % 2)

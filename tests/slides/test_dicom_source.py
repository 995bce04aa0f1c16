import io
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid
from tests.support.needles import COARSE
from tests.support.needles import RGB as NEEDLE

from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.slides.dicom_source import DicomSource
from hardmil.slides.level_source import Level
from hardmil.slides.openslide_source import OpenSlideSource
from hardmil.slides.reader import open_slide, open_source

TILE = 64
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
RGB = np.zeros((200, 300, 3), np.uint8)
RGB[:100, :150], RGB[:100, 150:] = (200, 60, 60), (60, 200, 60)
RGB[100:, :150], RGB[100:, 150:] = (60, 60, 200), (200, 200, 60)


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def pixel_data(rgb: np.ndarray, syntax: UID) -> tuple[int, bytes]:
    """The number of frames, and the encoded frames: tiles, row by row."""
    rows, columns = -(-rgb.shape[0] // TILE), -(-rgb.shape[1] // TILE)
    padding = ((0, rows * TILE - rgb.shape[0]), (0, columns * TILE - rgb.shape[1]), (0, 0))
    grid = np.pad(rgb, padding, mode="edge").reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2)
    tiles = [np.ascontiguousarray(tile) for tile in grid.reshape(-1, TILE, TILE, 3)]
    if syntax == JPEGBaseline8Bit:
        buffers = [io.BytesIO() for _ in tiles]
        for tile, buffer in zip(tiles, buffers, strict=True):
            Image.fromarray(tile).save(buffer, "JPEG", quality=95)
        return len(tiles), encapsulate([buffer.getvalue() for buffer in buffers])
    if syntax == RLELossless:
        how = {"rows": TILE, "columns": TILE, "number_of_frames": 1, "samples_per_pixel": 3}
        how |= {"bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0, "planar_configuration": 0}
        encode = RLELosslessEncoder.encode
        return len(tiles), encapsulate(
            [encode(tile, photometric_interpretation="RGB", **how) for tile in tiles]
        )
    return len(tiles), b"".join(tile.tobytes() for tile in tiles)


COMMON_TAGS: dict[str, object] = {
    "Modality": "SM",
    "InstanceNumber": 1,
    "Rows": TILE,
    "Columns": TILE,
    "TotalPixelMatrixFocalPlanes": 1,
    "SamplesPerPixel": 3,
    "PlanarConfiguration": 0,
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "PixelRepresentation": 0,
    "ImagedVolumeDepth": 0.001,
    "DimensionOrganizationType": "TILED_FULL",
    "NumberOfOpticalPaths": 1,
    "VolumetricProperties": "VOLUME",
    "FocusMethod": "AUTO",
    "ExtendedDepthOfField": "NO",
    "SpecimenLabelInImage": "NO",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "TotalPixelMatrixOriginSequence": [
        item(XOffsetInSlideCoordinateSystem=0, YOffsetInSlideCoordinateSystem=0)
    ],
    "ImageOrientationSlide": [0, -1, 0, -1, 0, 0],
}
"""Tags with the same value in all instances."""


def write_instance(
    path: Path, rgb: np.ndarray, *, mpp: float, kind: str, series: str, syntax: UID, icc: bytes | None = None
) -> None:
    height, width = rgb.shape[:2]
    n_frames, pixels = pixel_data(rgb, syntax)
    image_type = ["DERIVED" if kind == "RESAMPLED" else "ORIGINAL", "PRIMARY", "VOLUME", kind]
    optical_path = item(OpticalPathIdentifier="0", IlluminationTypeCodeSequence=[])
    if icc is not None:
        optical_path.ICCProfile = icc
    measures = item(PixelSpacing=[mpp / 1e3, mpp / 1e3], SliceThickness=0.001)
    shared = item(
        PixelMeasuresSequence=[measures],
        WholeSlideMicroscopyImageFrameTypeSequence=[item(FrameType=image_type)],
    )
    uid = generate_uid()
    dataset = item(
        **COMMON_TAGS,
        SOPClassUID=WHOLE_SLIDE,
        SOPInstanceUID=uid,
        StudyInstanceUID=f"{series}.1",
        SeriesInstanceUID=f"{series}.2",
        FrameOfReferenceUID=f"{series}.3",
        ImageType=image_type,
        NumberOfFrames=n_frames,
        TotalPixelMatrixColumns=width,
        TotalPixelMatrixRows=height,
        PhotometricInterpretation="YBR_FULL_422" if syntax == JPEGBaseline8Bit else "RGB",
        ImagedVolumeWidth=width * mpp / 1e3,
        ImagedVolumeHeight=height * mpp / 1e3,
        OpticalPathSequence=[optical_path],
        SharedFunctionalGroupsSequence=[shared],
        PixelData=pixels,
    )
    dataset["PixelData"].is_undefined_length = syntax != ExplicitVRLittleEndian
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = UID(WHOLE_SLIDE)
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dcmwrite(path, dataset, enforce_file_format=True)


def write_dicom(folder: Path, *, syntax: UID, icc: bytes | None = None) -> Path:
    """A folder of two instances, 0.5 and 1 um/px."""
    folder.mkdir()
    series = generate_uid()[:40].rstrip(".")
    write_instance(folder / "fine.dcm", RGB, mpp=0.5, kind="NONE", series=series, syntax=syntax, icc=icc)
    write_instance(
        folder / "coarse.dcm", RGB[::2, ::2], mpp=1.0, kind="RESAMPLED", series=series, syntax=syntax
    )
    return folder


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

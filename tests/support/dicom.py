"""DICOM slides of one or two instances, written from pixels."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless, generate_uid

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

"""DICOM slides: OpenSlide reads what it can, wsidicom (hardmil[dicom]) what OpenSlide refuses."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.files.atomic import visible
from hardmil.geometry import Downsample
from hardmil.slides.level_source import Level, damaged, read_clipped
from hardmil.slides.openslide_source import OpenSlideSource
from hardmil.slides.pictures import DAMAGE
from hardmil.slides.resolution import Scale

if TYPE_CHECKING:
    from pydicom import Dataset
    from wsidicom import WsiDicom


class DicomSource:
    """The `LevelSource` of a DICOM slide that wsidicom opens.

    Args:
        path: The slide's file or folder, named in errors.
        files: The instances of the slide.
        slide: The open slide.
    """

    def __init__(self, path: Path, *, files: list[Path], slide: "WsiDicom") -> None:
        pyramid = slide.pyramid
        levels = sorted((pyramid[i] for i in range(len(pyramid))), key=lambda level: -level.size.width)
        base = levels[0]
        self.levels = tuple(
            Level(
                level.size.width,
                level.size.height,
                Downsample.between(
                    (base.size.width, base.size.height), (level.size.width, level.size.height)
                ),
                (level.tile_size.width, level.tile_size.height),
            )
            for level in levels
        )
        self.scale = Scale(float(base.mpp.width), float(base.mpp.height))
        header = _header(files, width_px=base.size.width)
        paths = header.get("OpticalPathSequence") or []
        self.icc_profile: bytes | None = paths[0].get("ICCProfile") if paths else None
        self.image_type = str(header.ImageType[3])
        self.bounds = None
        self.notes: tuple[str, ...] = ()
        self._path = path
        self._numbers = [level.level for level in levels]
        self._slide = slide
        self._lock = threading.Lock()

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there.
        """
        size = self.levels[level]
        x, y = round(x / size.downsample.x), round(y / size.downsample.y)

        def read(left: int, top: int, right: int, bottom: int) -> UInt8[np.ndarray, "_ _ 3"]:
            with self._lock:
                found = self._slide.read_region(
                    (left, top), self._numbers[level], (right - left, bottom - top)
                )
            return np.asarray(found.convert("RGB"))

        try:
            return read_clipped(size, x=x, y=y, width=width, height=height, read=read)
        except _errors() as error:
            raise damaged(
                self._path, f"cannot be read at x {x}, y {y} of level {level}", reason=error
            ) from error

    def close(self) -> None:
        """Release the files."""
        self._slide.close()


def open_dicom(path: Path) -> OpenSlideSource | DicomSource:
    """The DICOM slide at `path`: a folder of its instances, or one instance.

    Raises:
        SlideError: If it cannot be read, its full resolution is missing, or OpenSlide refuses it and wsidicom
            is not installed.
    """
    files = _instances(path)
    if path.is_dir():
        _check_one_series(path, files)
    try:
        source = OpenSlideSource(files[0], path=path)
    except SlideError as error:
        source = _open_with_wsidicom(path, files=files, refusal=error)
    if source.image_type == "RESAMPLED":
        source.close()
        raise SlideError(
            f"{path}: its finest instance is downsampled (RESAMPLED); expected the full resolution of the "
            "scanner; copy the missing instance into the folder and give the folder as path"
        )
    return source


def _instances(path: Path) -> list[Path]:
    """The DICOM files of a folder, or the one file `path`."""
    if path.is_file():
        return [path]
    try:
        files = [file for file in visible(path.iterdir()) if file.is_file() and _is_dicom(file)]
    except OSError as error:
        raise SlideError(
            f"{path}: cannot be read ({error.strerror}); ask its owner, or change its permissions"
        ) from error
    if not files:
        raise SlideError(
            f"{path}: is a folder without a DICOM file; expected a slide; give the path of a slide file"
        )
    return files


def series_of(path: Path) -> str | None:
    """The series (SeriesInstanceUID) of a whole-slide instance; None for any other file.

    All instances of a series are one slide.
    """
    import openslide

    try:
        if not path.is_file() or not _is_dicom(path):
            return None
        with openslide.OpenSlide(path) as slide:
            return slide.properties.get("dicom.SeriesInstanceUID")
    except OSError:
        return None
    except openslide.OpenSlideError:
        return _series_in_header(path)


def _series_in_header(path: Path) -> str | None:
    """The series of a whole-slide instance that OpenSlide refuses; None without pydicom."""
    try:
        from pydicom import dcmread
    except ImportError:
        return None
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "Modality"])
    except _errors():
        return None
    return str(header.SeriesInstanceUID) if header.get("Modality") == "SM" else None


def _check_one_series(path: Path, files: list[Path]) -> None:
    """Raise SlideError if the instances in a folder belong to several slides."""
    first: dict[str, Path] = {}
    for file in files:
        series = series_of(file)
        if series is not None:
            first.setdefault(series, file)
    if len(first) > 1:
        found = ", ".join(f"{series} ({file.name})" for series, file in sorted(first.items()))
        raise SlideError(
            f"{path}: holds {len(first)} DICOM series: {found}; expected the instances of one slide; move "
            "each series to a folder of its own, or give one file of the series as path"
        )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"


def _open_with_wsidicom(path: Path, *, files: list[Path], refusal: SlideError) -> DicomSource:
    try:
        from wsidicom import WsiDicom
    except ImportError as error:
        raise SlideError(
            f"{path}: OpenSlide refuses this DICOM slide ({refusal.__cause__ or refusal}); wsidicom may read "
            "it: pip install 'hardmil[dicom]'"
        ) from error
    try:
        slide = WsiDicom.open(files)
    except _errors() as error:
        raise damaged(path, "is a DICOM slide that cannot be opened", reason=error) from error
    try:
        return DicomSource(path, files=files, slide=slide)
    except _errors() as error:
        slide.close()
        raise damaged(path, "is a DICOM slide that cannot be opened", reason=error) from error


def _errors() -> tuple[type[Exception], ...]:
    """What wsidicom raises on a slide that is damaged, incomplete or of an unsupported kind."""
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from wsidicom import errors

    own = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*own, InvalidDicomError, BytesLengthException, AttributeError, *DAMAGE)


def _header(files: list[Path], *, width_px: int) -> "Dataset":
    """The tags of the instance of this width, without its pixels."""
    from pydicom import dcmread

    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        if header.get("TotalPixelMatrixColumns") == width_px:
            return header
    raise LookupError(f"no instance is {width_px} px wide")

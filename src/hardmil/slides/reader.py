"""Open a slide of any format: who reads what.

OpenSlide reads what it knows; OME-TIFF, QPTIFF and plain TIFF go through tifffile, DICOM that OpenSlide
refuses through wsidicom, region by region; pictures (PNG, JPEG, BMP) are read whole. Every library's error
becomes a `SlideError` that names the file.
"""

from pathlib import Path
from typing import Literal

from hardmil.errors import SlideError
from hardmil.slides.protocol import Level as Level
from hardmil.slides.protocol import SlideReader as SlideReader
from hardmil.slides.protocol import damaged

Kind = Literal["openslide", "plain tiff", "tiff", "dicom", "picture"]


def open_slide(path: str | Path) -> SlideReader:
    """The slide at `path`, open; use it in a `with` statement. A folder is one of DICOM instances.

    Raises:
        SlideError: If there is no such file, or it cannot be read, or it holds no image that is understood.
    """
    path = Path(path)
    _check_path(path)
    match _kind_of(path):
        case "openslide":
            from hardmil.slides.openslide_reader import OpenSlideReader

            return OpenSlideReader(path)
        case "plain tiff":
            return _open_plain_tiff(path)
        case "tiff":
            from hardmil.slides.tiff_reader import open_tiff

            return open_tiff(path)
        case "dicom":
            from hardmil.slides.dicom_reader import open_dicom

            return open_dicom(path)
        case "picture":
            from hardmil.slides.picture_slide import PictureSlide
            from hardmil.slides.pictures import decode_picture

            return PictureSlide(path, picture=decode_picture(path))


def _kind_of(path: Path) -> Kind:
    """What reads a file. An OME-TIFF and a QPTIFF are TIFF to OpenSlide, which would miss levels and mpp."""
    import openslide

    if path.is_dir() or _holds(path, b"DICM", at=128):
        return "dicom"
    try:
        found = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError as error:
        raise damaged(path, "is a slide that cannot be opened", reason=error) from error
    if found not in (None, "generic-tiff"):
        return "openslide"
    if path.suffix.lower() == ".mrxs" and _holds(path, b"\xff\xd8", at=0):
        # Alone it is a small photograph of the slide.
        raise SlideError(
            f"{path}: the folder {path.stem} beside it, which holds the slide's pixels, is missing or has no "
            "Slidedat.ini; copy the folder too, under that name"
        )
    if not any(_holds(path, magic, at=0) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "openslide" if found else "picture"
    from hardmil.slides.tiff_reader import is_ome_or_qptiff

    return "tiff" if found is None or is_ome_or_qptiff(path) else "plain tiff"


def _open_plain_tiff(path: Path) -> SlideReader:
    """A tiled TIFF of no scanner, which OpenSlide may refuse all the same (for its compression, say)."""
    from hardmil.slides.openslide_reader import OpenSlideReader
    from hardmil.slides.tiff_reader import open_tiff

    try:
        return OpenSlideReader(path)
    except SlideError:
        return open_tiff(path)


def _holds(path: Path, magic: bytes, *, at: int) -> bool:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(len(magic)) == magic


def _check_path(path: Path) -> None:
    problem = _problem_of(path)
    if problem:
        raise SlideError(f"{path}: {problem}")


def _problem_of(path: Path) -> str | None:
    """Why not even a byte of it can be read, in words; None where one can."""
    try:
        if path.is_dir():
            return None
        with path.open("rb") as file:
            return None if file.read(1) else "is empty (0 bytes); expected a slide, copy the file again"
    except FileNotFoundError:
        return "there is no such file; check the path column of slides.csv"
    except PermissionError:
        return "no permission to read it; ask its owner or change its mode"
    except OSError as error:
        return f"cannot be read ({error.strerror}); check the path, and the disk or network it is on"

"""Open a slide of any format.

OpenSlide reads the formats it supports; tifffile reads OME-TIFF, QPTIFF and plain TIFF, and wsidicom the
DICOM slides that OpenSlide refuses, region by region. Pictures (PNG, JPEG, BMP) are decoded whole. The errors
of all libraries become a `SlideError` that names the file.
"""

from pathlib import Path
from typing import Literal

from hardmil.budget import MAX_EDGE_PX, not_a_file
from hardmil.errors import SlideError
from hardmil.files.geojson import SLIDE_CORNER
from hardmil.slides.level_source import TIFF_SIGNATURES, LevelSource, damaged
from hardmil.slides.slide import Slide

Kind = Literal["openslide", "plain tiff", "tiff", "dicom", "picture"]


def open_slide(path: str | Path) -> Slide:
    """The slide at `path`, open; use it in a `with` statement. A folder holds the instances of a DICOM slide.

    Raises:
        SlideError: If the file does not exist, cannot be read, or is not an image in a supported format.
    """
    path = Path(path)
    return Slide(path, open_source(path))


def origin_of(path: Path | None) -> tuple[int, int]:
    """Top-left corner of the scanned area of a slide, level-0 px: where its coordinates start in QuPath.

    (0, 0) without a file that can be opened: features of a slide can be used where the slide cannot.
    """
    try:
        # Only OpenSlide reads slides that state their scanned area; a picture would be decoded whole.
        if path is None or not path.exists() or _kind_of(path) != "openslide":
            return SLIDE_CORNER
        with open_slide(path) as slide:
            return slide.origin
    except SlideError:
        return SLIDE_CORNER


def open_source(path: Path) -> LevelSource:
    """The open levels of the slide at `path`, through the library that reads its format.

    Raises:
        SlideError: As `open_slide`.
    """
    _check_path(path)
    source = _opened(path)
    longest = max(source.levels[0].width_px, source.levels[0].height_px)
    if longest > MAX_EDGE_PX:
        source.close()
        raise SlideError(
            f"{path}: states an edge of {longest:,} px; expected at most {MAX_EDGE_PX:,}, a glass slide at "
            "0.125 um/px; the file is probably damaged, copy it again"
        )
    return source


def _opened(path: Path) -> LevelSource:
    """The levels, of whatever size they claim to be."""
    match _kind_of(path):
        case "openslide":
            from hardmil.slides.openslide_source import OpenSlideSource

            return OpenSlideSource(path)
        case "plain tiff":
            return _open_plain_tiff(path)
        case "tiff":
            from hardmil.slides.tiff_source import open_tiff

            return open_tiff(path)
        case "dicom":
            from hardmil.slides.dicom_source import open_dicom

            return open_dicom(path)
        case "picture":
            from hardmil.slides.picture_source import PictureSource
            from hardmil.slides.pictures import decode_picture

            return PictureSource(decode_picture(path))


def _kind_of(path: Path) -> Kind:
    """The kind of a file. OpenSlide takes OME-TIFF and QPTIFF for plain TIFF and misses levels and mpp."""
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
        # Without its folder, the file is a small photograph of the slide.
        raise SlideError(
            f"{path}: the folder {path.stem} next to it, which holds the pixels, is missing or has no "
            "Slidedat.ini; copy the folder too, under that name"
        )
    if not any(_holds(path, signature, at=0) for signature in TIFF_SIGNATURES):
        return "openslide" if found else "picture"
    from hardmil.slides.tiff_source import is_ome_or_qptiff

    return "tiff" if found is None or is_ome_or_qptiff(path) else "plain tiff"


def _open_plain_tiff(path: Path) -> LevelSource:
    """A tiled TIFF that no scanner wrote; tifffile reads it where OpenSlide does not, or not rightly."""
    from hardmil.slides.openslide_source import OpenSlideSource
    from hardmil.slides.tiff_source import is_misread_by_openslide, open_tiff

    if is_misread_by_openslide(path):
        return open_tiff(path)
    try:
        return OpenSlideSource(path)
    except SlideError:
        return open_tiff(path)


def _holds(path: Path, signature: bytes, *, at: int) -> bool:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(len(signature)) == signature


def _check_path(path: Path) -> None:
    problem = _problem_of(path)
    if problem is not None:
        raise SlideError(f"{path}: {problem}")


def _problem_of(path: Path) -> str | None:
    """Why the first byte cannot be read, for a message; None if it can."""
    try:
        if path.is_dir():
            return None
        found = not_a_file(path)
        if found is not None:
            return f"is {found}; expected a slide; check the path"
        with path.open("rb") as file:
            return None if file.read(1) else "is empty (0 bytes); expected a slide, copy the file again"
    except FileNotFoundError:
        if "\\" in path.name:
            return "there is no such file; it is a path of Windows: give the path on this computer"
        return "there is no such file; check the path"
    except PermissionError:
        return "no permission to read it; ask its owner, or change its permissions"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"cannot be read ({reason}); check the path, and the disk or network it is on"

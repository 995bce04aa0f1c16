"""The name of a slide, from the path of its file or folder."""

from pathlib import Path


def slide_stem(path: Path) -> str:
    """The name without its suffix; a folder, and a name that ends in a number, keep their dots.

    The files and folders of DICOM slides are often named after their UID, such as 2.25.1001.
    """
    is_number = path.suffix[1:].isdigit()
    return path.name if is_number or path.is_dir() else path.stem

"""Rows of slides that are one DICOM slide."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from hardmil.errors import TableError
from hardmil.slides.dicom_source import series_of


def check_one_row_a_series(paths: Sequence[Path | None], *, where: str) -> None:
    """Check that no two paths are instances of one DICOM series, which is one slide.

    Only files in the same folder are compared, and of other files only the name is looked at.

    Args:
        paths: The path of each slide.
        where: The table or the list of slides, for the error.

    Raises:
        TableError: If two paths are instances of one series.
    """
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if path is not None and _may_be_dicom(path):
            by_folder[path.parent].append(path)
    for folder, files in by_folder.items():
        first: dict[str, Path] = {}
        for file in files if len(files) > 1 else ():
            series = series_of(file)
            if series is not None and first.setdefault(series, file) != file:
                raise TableError(
                    f"{where}: {first[series].name} and {file.name} in {folder} are instances of one DICOM "
                    f"series ({series}); expected each slide once; give one of them, or the folder if it "
                    "holds nothing else"
                )


def _may_be_dicom(path: Path) -> bool:
    """Whether the name is one that DICOM files have: .dcm, a UID, or no suffix."""
    return path.suffix.lower() in ("", ".dcm", ".dicom") or path.suffix[1:].isdigit()

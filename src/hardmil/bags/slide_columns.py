"""The columns of a table of slides, by our names and those of other tools."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from hardmil.bags.class_columns import columns_of_yes_and_no
from hardmil.errors import TableError

ALIASES = {
    "slide_id": ("slide_id", "slide", "filename", "wsi"),
    "case_id": ("case_id", "case", "patient", "patient_id"),
    "label": ("label",),
    "path": ("path",),
    "mpp": ("mpp",),
    "annotations": ("annotations",),
}
KNOWN_COLUMNS = frozenset(alias for aliases in ALIASES.values() for alias in aliases)


def find_columns(header: tuple[str, ...], *, path: Path, required: Iterable[str]) -> dict[str, str]:
    """The table's name of each of our columns.

    Raises:
        TableError: If a required column is missing, or two have the same name.
    """
    by_lower = {name.lower(): name for name in header}
    for lower in filter(None, by_lower):
        same = [name for name in header if name.lower() == lower]
        if len(same) > 1:
            raise TableError(
                f"{path}: {len(same)} columns are named {' and '.join(dict.fromkeys(same))}; expected one; "
                "rename the others"
            )
    found = {
        ours: by_lower[next(alias for alias in aliases if alias in by_lower)]
        for ours, aliases in ALIASES.items()
        if any(alias in by_lower for alias in aliases)
    }
    for name in required:
        if name not in found:
            found_text = ", ".join(header) or "an empty header"
            raise TableError(
                f"{path}: no column {name}; found {found_text}; {_hint(name, header, path=path)}"
            )
    return found


def _hint(name: str, header: tuple[str, ...], *, path: Path) -> str:
    """How to give a table a column that it lacks."""
    near = difflib.get_close_matches(name, header, n=1)
    if near:
        return f'rename "{near[0]}" to {name}'
    classes = columns_of_yes_and_no(path, taken=KNOWN_COLUMNS) if name == "label" else ()
    if len(classes) < 2:
        return f"add a column {name}"
    return (
        f"add a column {name}; or, if {' and '.join(classes)} are classes and a slide may have several of "
        f"them, set classes: [{', '.join(classes)}] and multi_label: true in study.yaml"
    )


def no_cases(header: tuple[str, ...], *, path: Path) -> str:
    """That a table has no column of cases, for an error."""
    *others, last = ALIASES["case_id"]
    return (
        f"{path}: no column of cases; found {', '.join(header)}; expected {', '.join(others)} or {last}, the "
        "patient of each slide; without it, slides of a patient could be in training and test; rename or add "
        "the column, or, if each slide is from another patient, add a line to study.yaml: cases: slide"
    )

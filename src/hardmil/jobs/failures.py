"""Failed items: lines for the terminal, and files with the tracebacks."""

import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hardmil.errors import HardmilError
from hardmil.files.atomic import write_atomically
from hardmil.files.csv_table import write_table
from hardmil.files.shown_paths import without_home
from hardmil.words import some_of

MOST_CAUSES = 20
"""How many causes are printed."""


@dataclass(frozen=True)
class Failure:
    """An item that failed, and why."""

    name: str
    message: str
    traceback: str


def print_failures(failures: list[Failure], *, log: Path | None = None) -> None:
    """Print on stderr which items failed and why, equal causes once, and the file with the tracebacks."""
    if not failures:
        return
    causes = _by_cause(failures)
    lines = [f"{len(failures)} failed", *(f"  {line}" for line in causes[:MOST_CAUSES])]
    if len(causes) > MOST_CAUSES:
        lines.append(f"  and {len(causes) - MOST_CAUSES} more causes; --json prints all")
    lines += [] if log is None else [f"tracebacks: {log}"]
    print("\n".join(lines), file=sys.stderr)


def _by_cause(failures: Iterable[Failure]) -> list[str]:
    """A line for each cause. Messages that differ only in the name of the item have one cause."""
    causes: dict[str, list[Failure]] = {}
    for failure in failures:
        causes.setdefault(failure.message.replace(failure.name, ""), []).append(failure)
    return [
        f"{some_of([failure.name for failure in found])}: {_cause(found[0])}" for found in causes.values()
    ]


def _cause(failure: Failure) -> str:
    """The message without the name that it may begin with."""
    return failure.message.removeprefix(f"slide {failure.name}: ")


def write_failures(folder: Path, failures: list[Failure]) -> Path | None:
    """Write `failures.csv` and `failures.log`, which has the tracebacks; the path of the log.

    Without failures, the files of an earlier run are removed and the result is None.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    table, log = folder / "failures.csv", folder / "failures.log"
    if not failures:
        table.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        return None
    write_table(table, failures, row=Failure, columns=("name", "message"))
    with write_atomically(log) as draft:
        text = "\n".join(f"{failure.name}\n{failure.traceback}" for failure in failures)
        draft.write_text(text, encoding="utf-8")
    return log


def failure_of(name: str, error: Exception) -> Failure:
    """The failure of an item; for errors other than hardmil's own, the message starts with the type.

    The home folder is written as `~`, because failures are stored and shown on reports.
    """
    message = str(error) if isinstance(error, HardmilError) else f"{type(error).__name__}: {error}"
    lines = "".join(traceback.format_exception(error))
    return Failure(name=name, message=without_home(message), traceback=without_home(lines))

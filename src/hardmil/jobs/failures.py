"""What failed and why: a table for the terminal, and files with the tracebacks."""

import csv
import traceback
from dataclasses import dataclass
from pathlib import Path

from hardmil.errors import HardmilError
from hardmil.files.atomic import write_atomically


@dataclass(frozen=True)
class Failure:
    """An item that could not be done, and why."""

    name: str
    message: str
    traceback: str


def print_failures(failures: list[Failure], *, log: Path | None = None) -> None:
    """Print a table on stderr: which item, why, and the file that holds its traceback."""
    if not failures:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(failures)} failed", title_justify="left")
    for heading in ("which", "why", "traceback")[: 2 if log is None else 3]:
        table.add_column(heading, overflow="fold")
    for failure in failures:
        # Text, not str: rich would read the brackets of a message as markup.
        cells = [failure.name, failure.message] + ([str(log)] if log is not None else [])
        table.add_row(*(Text(cell) for cell in cells))
    Console(stderr=True).print(table)


def write_failures(folder: Path, failures: list[Failure]) -> Path | None:
    """Write `failures.csv` and, with the tracebacks, `failures.log`; the path of the latter.

    Without failures, what an earlier run left of these files is removed, and None comes back.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    table, log = folder / "failures.csv", folder / "failures.log"
    if not failures:
        table.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        return None
    with write_atomically(table) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "message"))
        rows.writerows((failure.name, failure.message) for failure in failures)
    with write_atomically(log) as draft:
        text = "\n".join(f"{failure.name}\n{failure.traceback}" for failure in failures)
        draft.write_text(text, encoding="utf-8")
    return log


def failure_of(name: str, error: Exception) -> Failure:
    """A user's error speaks for itself; of anything else the type is part of the message."""
    message = str(error) if isinstance(error, HardmilError) else f"{type(error).__name__}: {error}"
    return Failure(name=name, message=message, traceback="".join(traceback.format_exception(error)))

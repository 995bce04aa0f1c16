"""Failed items: a table for the terminal, and files with the tracebacks."""

import traceback
from dataclasses import dataclass
from pathlib import Path

from hardmil.errors import HardmilError
from hardmil.files.atomic import write_atomically
from hardmil.files.csv_table import write_table


@dataclass(frozen=True)
class Failure:
    """An item that failed, and why."""

    name: str
    message: str
    traceback: str


def print_failures(failures: list[Failure], *, log: Path | None = None) -> None:
    """Print a table on stderr: each item, its error, and the file with its traceback."""
    if not failures:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{len(failures)} failed", title_justify="left")
    for heading in ("which", "why", "traceback")[: 2 if log is None else 3]:
        table.add_column(heading, overflow="fold")
    for failure in failures:
        # Text, not str, so that rich does not read brackets in a message as markup.
        cells = [failure.name, failure.message] + ([str(log)] if log is not None else [])
        table.add_row(*(Text(cell) for cell in cells))
    Console(stderr=True).print(table)


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
    """The failure of an item; for errors other than hardmil's own, the message starts with the type."""
    message = str(error) if isinstance(error, HardmilError) else f"{type(error).__name__}: {error}"
    return Failure(name=name, message=message, traceback="".join(traceback.format_exception(error)))

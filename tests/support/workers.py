"""Items for workers that finish, fail, hang or kill their worker."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

from hardmil.errors import FoldError, StoreError
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import Engine
from hardmil.jobs.schedule import run_groups

TWO_WORKERS = Engine(workers=2)


FATAL_ERRORS = (FoldError, StoreError)


@dataclass(frozen=True)
class Desk:
    """A folder in which the workers of these tests leave notes."""

    folder: Path

    def note(self, name: str, text: object = "") -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{text}\n")

    def notes(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.note("arrivals", os.getpid())


def work(desk: Desk, item: str) -> str:
    """Do what the name of the item says, and note the time."""
    desk.note(f"{item}.begin", time.monotonic())
    desk.note("pids", os.getpid())
    what = item.partition("-")[0]
    if (what == "once" and len(desk.notes(f"{item}.begin")) == 1) or what == "always":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(7)
    elif what == "fail":
        raise ZeroDivisionError("a bug")
    elif what == "leak":
        raise FoldError("fold 3: leaks")
    elif what == "full":
        raise OSError(28, "No space left on device")
    elif what == "slow":
        time.sleep(1)
    elif what == "after":
        wait_until(lambda: bool(desk.notes(f"{item.partition('-')[2]}.begin")))
    elif what == "sleep":
        time.sleep(600)
    desk.note(f"{item}.end", time.monotonic())
    return item.upper()


def run_on_workers(
    desk: Desk, *groups: Sequence[str], engine: Engine = TWO_WORKERS
) -> tuple[dict[str, tuple[str, int]], list[Failure]]:
    """The kept results, with the process that kept them, and the failures."""
    kept: dict[str, tuple[str, int]] = {}
    failures = run_groups(
        work,
        groups,
        shared=desk,
        engine=engine,
        name=str,
        keep=lambda item, result: kept.update({item: (result, os.getpid())}),
        label="items",
        stops=FATAL_ERRORS,
        quiet=True,
    )
    return kept, failures

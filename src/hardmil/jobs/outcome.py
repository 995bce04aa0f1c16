"""The result of a command, for the user and for scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hardmil.jobs.failures import Failure


@dataclass(frozen=True)
class Outcome:
    """Lines to print, values for --json, the items that failed, and the file with their tracebacks."""

    lines: Sequence[str]
    values: Mapping[str, object] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    log: Path | None = None

"""What `--json` prints: one JSON object on stdout and nothing else, so that a script can read it."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

_STDOUT: ContextVar[TextIO | None] = ContextVar("stdout of the command line", default=None)


@contextmanager
def json_alone() -> Iterator[None]:
    """In the block, what anything prints goes to stderr, except for `print_json`."""
    token = _STDOUT.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _STDOUT.reset(token)


def print_json(values: Mapping[str, object]) -> None:
    """Print an object on one line of stdout, also within `json_alone`."""
    print(json.dumps(values, allow_nan=False), file=_STDOUT.get() or sys.stdout, flush=True)


def print_error(message: str, *, as_json: bool) -> None:
    """Print on stderr why a command ended; with `as_json`, on stdout as well."""
    print(f"hardmil: {message}", file=sys.stderr)
    if as_json:
        print_json({"error": message})

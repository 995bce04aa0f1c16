"""What a command prints at its end; with `--json`, one JSON object on stdout and nothing else."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from hardmil.jobs.outcome import Outcome

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


def print_stopped(how_far: str = "", *, as_json: bool) -> None:
    """Print that Ctrl-C or SIGTERM ended the command, how far it was, and how to go on."""
    done = f" at {how_far}" if how_far else ""
    print_error(f"stopped{done}; run the same command to continue", as_json=as_json)


def finish(outcome: "Outcome", *, as_json: bool) -> None:
    """Print the failures and the lines of a command; exit 1 if there are failures."""
    from hardmil.jobs.failures import print_failures

    print_failures(list(outcome.failures), log=outcome.log)
    for line in outcome.lines:
        print(line)
    if as_json:
        failed = {failure.name: failure.message for failure in outcome.failures}
        print_json({**outcome.values, "failures": failed})
    if outcome.failures:
        raise typer.Exit(1)

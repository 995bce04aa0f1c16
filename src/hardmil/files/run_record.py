"""run.json: what a later reader needs to run a command again."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hardmil.files.atomic import write_json


def run_record(
    command: str, *, config: Mapping[str, object], seed: int | None, started: float
) -> dict[str, object]:
    """What a later reader needs to run this again: versions, config, seed, git state, times, machine.

    Args:
        command: As the user would type it, "hardmil evaluate study.yaml".
        config: Every knob, as JSON-able values.
        seed: None for a command that draws nothing.
        started: Seconds since the epoch, `time.time()`.
    """
    now = time.time()
    return {
        "command": command,
        "versions": {"python": platform.python_version()} | _versions("hardmil", "torch", "numpy"),
        "config": dict(config),
        "seed": seed,
        "git": _git_state(),
        "started": _iso(started),
        "finished": _iso(now),
        "seconds": round(now - started, 3),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "arguments": sys.argv[1:],
    }


def write_run_record(
    folder: Path, command: str, *, config: Mapping[str, object], seed: int | None, started: float
) -> Path:
    """Write `run.json` into a folder; its path.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    path = folder / "run.json"
    write_json(path, run_record(command, config=config, seed=seed, started=started))
    return path


def _versions(*packages: str) -> dict[str, str | None]:
    """Versions as installed; the packages themselves are not imported."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _git_state() -> dict[str, object] | None:
    """Commit of the working folder, and whether it has changes; None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")

"""run.json: what is needed to reproduce a run."""

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
    """What is needed to reproduce a run: versions, config, seed, git state, times, machine.

    Args:
        command: As the user would type it, "hardmil evaluate study.yaml".
        config: Every setting, as values that JSON can store.
        seed: None for a command without random numbers.
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
    """Write `run.json` into a folder and return its path.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    path = folder / "run.json"
    write_json(path, run_record(command, config=config, seed=seed, started=started))
    return path


def _versions(*packages: str) -> dict[str, str | None]:
    """Installed versions, without importing the packages; None for a missing one."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _git_state() -> dict[str, object] | None:
    """Commit of the working folder, and whether it has uncommitted changes; None outside a repository."""
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

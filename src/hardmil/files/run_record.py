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
from hardmil.files.shown_paths import shown_paths


def run_record(
    command: str,
    *,
    config: Mapping[str, object],
    seed: int | None,
    started: float,
    below: Path = Path(),
    deidentified: bool = False,
) -> dict[str, object]:
    """What is needed to reproduce a run: versions, config, seed, git state, times, machine.

    Paths are shortened: see `shown_paths`.

    Args:
        command: As the user would type it, "hardmil evaluate study.yaml".
        config: Every setting, as values that JSON can store.
        seed: None for a command without random numbers.
        started: Seconds since the epoch, `time.time()`.
        below: The folder of the study: paths in it become relative to it.
        deidentified: Whether the arguments are left out, which may contain ids of slides.
    """
    now = time.time()
    return {
        "command": command,
        "versions": {"python": platform.python_version()} | _versions("hardmil", "torch", "numpy"),
        "config": shown_paths(config, below=below),
        "seed": seed,
        "git": _git_state(),
        "started": _iso(started),
        "finished": _iso(now),
        "seconds": round(now - started, 3),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        **({"deidentified": True} if deidentified else {"arguments": shown_paths(sys.argv[1:], below=below)}),
    }


def write_run_record(
    folder: Path,
    command: str,
    *,
    config: Mapping[str, object],
    seed: int | None,
    started: float,
    below: Path | None = None,
    deidentified: bool = False,
) -> Path:
    """Write `run.json` into a folder and return its path; paths are shown relative to `below` or the folder.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    path = folder / "run.json"
    record = run_record(
        command, config=config, seed=seed, started=started, below=below or folder, deidentified=deidentified
    )
    write_json(path, record)
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

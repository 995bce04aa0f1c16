"""`hardmil doctor [STUDY]`: what is installed and works here; what is wrong with a study."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hardmil.commands.outcome import Outcome
from hardmil.commands.study_check import check_study
from hardmil.errors import TrainingError
from hardmil.mil.training import find_device

PACKAGES = (
    "hardmil",
    "torch",
    "numpy",
    "scikit-learn",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "h5py",
)
DEVICES = ("cpu", "cuda", "mps")


def doctor(study: Path | None = None, *, overrides: Sequence[str] = (), quiet: bool = True) -> Outcome:
    """Versions, whether OpenSlide loads, which devices can train; of a study, what `check_study` finds."""
    here = _installation()
    if study is None:
        return here
    found = check_study(study, overrides=overrides, quiet=quiet)
    return Outcome([*here.lines, *found.lines], {**here.values, **found.values}, found.failures)


def _installation() -> Outcome:
    versions = {name: _version(name) for name in PACKAGES}
    devices = {name: _device(name) for name in DEVICES}
    readers = {"openslide": _openslide()}
    lines = [f"python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name:18} {found}" for name, found in versions.items()]
    lines += [f"reader {name:11} {found}" for name, found in readers.items()]
    lines += [f"device {name:11} {found}" for name, found in devices.items()]
    return Outcome(lines, {"versions": versions, "readers": readers, "devices": devices})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing; install it with: pip install {name}"


def _device(name: str) -> str:
    try:
        device = find_device(name)
    except TrainingError:
        return "not here"
    return "works, bfloat16" if device.bfloat16 else "works, float32"


def _openslide() -> str:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return f"does not load ({error}); install it with: pip install openslide-python openslide-bin"
    return f"OpenSlide {openslide.__library_version__}"

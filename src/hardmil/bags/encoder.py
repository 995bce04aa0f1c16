"""Patches -> embeddings of a frozen encoder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from hardmil.bags.bag import Bag
from hardmil.errors import BagError, ConfigError
from hardmil.slides.patches import resize_patches

Patches = UInt8[np.ndarray, "patch size size 3"]
Embeddings = Float[np.ndarray, "patch dim"]


@runtime_checkable
class PatchEncoder(Protocol):
    """A frozen network from pixels to one vector a patch."""

    @property
    def name(self) -> str:
        """What files that hold its embeddings say of them."""
        ...

    def embed(self, patches: Patches) -> Embeddings:
        """One vector a patch, in their order."""
        ...


def open_encoder(name: str, *, device: str = "cpu", input_px: int | None = None) -> PatchEncoder:
    """The encoder of this name.

    Args:
        name: efficientnet-lite0, or "module:callable": your own, from uint8 patches (n, h, w, 3) to (n, dim).
        device: Where it runs; your own runs where it likes.
        input_px: Edge that patches are resized to first; None: as they are.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed.
    """
    match name.partition(":"):
        case ("efficientnet-lite0", "", _):
            from hardmil.bags.efficientnet import open_efficientnet_lite0

            return open_efficientnet_lite0(device=device, input_px=input_px)
        case (module, ":", attribute):
            return _OwnEncoder(name, _imported(name, module, attribute), input_px)
        case _:
            raise ConfigError(
                f"encode: {name}: no such encoder; expected pixels, efficientnet-lite0, or your own as "
                '"module:callable"'
            )


def encoded(bag: Bag, *, encoder: PatchEncoder) -> Bag:
    """The bag with embeddings, float16, in the place of its pixels.

    Raises:
        BagError: If one is not finite, or not one came back for each patch.
    """
    embeddings = encoder.embed(bag.instances)
    if embeddings.ndim != 2 or len(embeddings) != len(bag):
        raise BagError(
            f"slide {bag.slide_id}: encoder {encoder.name} gave {embeddings.shape} for {len(bag)} patches; "
            "expected one vector each"
        )
    return replace(bag, instances=embeddings.astype(np.float16))


@dataclass(frozen=True, eq=False)
class _OwnEncoder:
    """A user's own callable."""

    name: str
    call: Callable[[np.ndarray], object]
    input_px: int | None

    def embed(self, patches: Patches) -> np.ndarray:
        """What the callable gives, as float32; `encoded` checks its shape."""
        return np.asarray(self.call(resize_patches(patches, size_px=self.input_px)), dtype=np.float32)


def _imported(name: str, module: str, attribute: str) -> Callable[[np.ndarray], object]:
    try:
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"encode: {name}: {error}; expected a module that Python can import and a callable in it"
        ) from error
    if not callable(found):
        raise ConfigError(f"encode: {name}: {attribute} is a {type(found).__name__}, expected a callable")
    return found

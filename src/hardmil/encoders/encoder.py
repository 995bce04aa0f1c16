"""The interface of a frozen encoder, from patches to embeddings."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hardmil.config.study import PIXELS, InstanceConfig

Patches = UInt8[np.ndarray, "patch size size 3"]


@runtime_checkable
class PatchEncoder(Protocol):
    """A frozen network that gives one vector for each patch."""

    @property
    def name(self) -> str:
        """The name of the encoder and its weights, as stored in files of its embeddings."""
        ...

    @property
    def batch_size(self) -> int:
        """The number of patches per batch at which it is fastest."""
        ...

    @property
    def input_px(self) -> int | None:
        """The edge to which it resizes patches; None: it does not resize them."""
        ...

    @property
    def trained_px(self) -> int | None:
        """The edge of the patches it was trained on; None: unknown, or any."""
        ...

    @property
    def um_per_px(self) -> float | None:
        """The resolution it was trained at; None: unknown."""
        ...

    def embed(self, patches: Patches) -> np.ndarray:
        """One vector for each patch, float (patch, dim), in order; `checked_embeddings` checks this."""
        ...


def padded(patches: Patches, *, size: int) -> UInt8[np.ndarray, "batch size size 3"]:
    """The patches, with the last one repeated until there are `size`."""
    missing = size - len(patches)
    return np.concatenate([patches, np.repeat(patches[-1:], missing, axis=0)]) if missing > 0 else patches


def encoder_notes(config: InstanceConfig, encoder: PatchEncoder) -> list[str]:
    """Notes for the user where patches differ from those the encoder was trained on; often empty."""
    if config.encode == PIXELS:
        return []
    patches, name = config.patches, encoder.name
    shown_px = encoder.input_px or patches.size_px
    notes: list[str] = []
    if patches.equalise != "none":
        notes.append(
            f"note: {name} was trained on unchanged images, but patches.equalise is {patches.equalise}; "
            "set it to none"
        )
    if encoder.um_per_px is not None and patches.um_per_px is None:
        notes.append(
            f"note: {name} was trained at {encoder.um_per_px} um/px, but patches.um_per_px is null: the "
            f"resolution of its input depends on the scanner; set patches.um_per_px: {encoder.um_per_px}"
        )
    elif encoder.um_per_px is not None and patches.um_per_px is not None:
        seen = patches.um_per_px * patches.size_px / shown_px
        if abs(seen / encoder.um_per_px - 1) > 0.01:
            notes.append(
                f"note: {name} was trained at {encoder.um_per_px} um/px, but its input has {seen:.3g} um/px: "
                f"patches of {patches.size_px} px at {patches.um_per_px} um/px, resized to {shown_px} px"
            )
    if encoder.trained_px is not None and shown_px != encoder.trained_px:
        notes.append(
            f"note: {name} was trained on patches of {encoder.trained_px} px, but its input has {shown_px} "
            "px; leave encode_px out"
        )
    elif encoder.trained_px is not None and patches.size_px != shown_px:
        notes.append(
            f"note: patches of {patches.size_px} px are resized to the {shown_px} px that {name} takes; "
            f"patches.size_px: {shown_px} needs no resizing"
        )
    return notes

"""Patches -> embeddings of a frozen encoder."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hardmil.config.study import PIXELS, InstanceConfig

Patches = UInt8[np.ndarray, "patch size size 3"]


@runtime_checkable
class PatchEncoder(Protocol):
    """A frozen network from pixels to one vector a patch."""

    @property
    def name(self) -> str:
        """What files that hold its embeddings say of them: which encoder, and which weights of it."""
        ...

    @property
    def batch_size(self) -> int:
        """How many patches at once it is fastest with."""
        ...

    @property
    def input_px(self) -> int | None:
        """Edge that it resizes a patch to; None: as it was cut."""
        ...

    @property
    def trained_px(self) -> int | None:
        """Edge of the patches it was trained on; None: not known, or any."""
        ...

    @property
    def um_per_px(self) -> float | None:
        """Resolution it was trained at; None: not known."""
        ...

    def embed(self, patches: Patches) -> np.ndarray:
        """One vector a patch, float (patch, dim), in their order; `checked_embeddings` holds it to that."""
        ...


def encoder_notes(config: InstanceConfig, encoder: PatchEncoder) -> list[str]:
    """Where patches as they are cut are not what the encoder was trained on; nothing where they are."""
    if config.encode == PIXELS:
        return []
    patches, name = config.patches, encoder.name
    shown_px = encoder.input_px or patches.size_px
    notes: list[str] = []
    if encoder.um_per_px is not None and patches.um_per_px is None:
        notes.append(
            f"note: {name} was trained at {encoder.um_per_px} um/px, but patches.um_per_px is null: what it "
            f"sees differs from scanner to scanner; set patches.um_per_px: {encoder.um_per_px}"
        )
    elif encoder.um_per_px is not None and patches.um_per_px is not None:
        seen = patches.um_per_px * patches.size_px / shown_px
        if abs(seen / encoder.um_per_px - 1) > 0.01:
            notes.append(
                f"note: {name} was trained at {encoder.um_per_px} um/px, but sees {seen:.3g}: patches of "
                f"{patches.size_px} px at {patches.um_per_px} um/px, shown to it at {shown_px} px"
            )
    if encoder.trained_px is not None and shown_px != encoder.trained_px:
        notes.append(
            f"note: {name} was trained on patches of {encoder.trained_px} px, but is shown {shown_px} px; "
            "leave encode_px out"
        )
    elif encoder.trained_px is not None and patches.size_px != shown_px:
        notes.append(
            f"note: patches of {patches.size_px} px are resized to the {shown_px} px that {name} takes; "
            f"patches.size_px: {shown_px} needs no resizing"
        )
    return notes

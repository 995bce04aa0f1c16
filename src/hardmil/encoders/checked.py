"""Checks of an encoder's embeddings before they are stored."""

import numpy as np

from hardmil.encoders.encoder import PatchEncoder, Patches
from hardmil.errors import BagError


def checked_embeddings(patches: Patches, *, encoder: PatchEncoder, slide_id: str) -> np.ndarray:
    """The embeddings of the patches as float16 (patch, dim).

    Raises:
        BagError: If one is not finite, or their number is not that of the patches; the slide is named.
    """
    return as_stored(encoder.embed(patches), len(patches), encoder=encoder, slide_id=slide_id)


def as_stored(found: np.ndarray, n_patches: int, *, encoder: PatchEncoder, slide_id: str) -> np.ndarray:
    """The output of an encoder for `n_patches` patches of a slide, as float16 (patch, dim).

    Raises:
        BagError: If one is not finite, or their number is not that of the patches.
    """
    if found.ndim != 2 or len(found) != n_patches or found.shape[1] == 0:
        raise BagError(
            f"slide {slide_id}: encoder {encoder.name} gave {found.shape} for {n_patches} patches; "
            "expected one vector for each; correct the encoder"
        )
    with np.errstate(over="ignore"):
        stored = found.astype(np.float16)
    broken = int(np.sum(~np.isfinite(stored).all(axis=1)))
    if broken:
        raise BagError(
            f"slide {slide_id}: encoder {encoder.name} gave NaN, infinite or too large features (above "
            f"65,504) for {broken} of {n_patches} patches; expected finite numbers; check its weights"
        )
    return stored


def is_constant(rows: np.ndarray) -> bool:
    """Whether all rows are equal."""
    return bool((rows == rows[:1]).all())


def constant_error(encoder: PatchEncoder, *, slide_id: str, n_patches: int) -> BagError:
    """The error for equal embeddings of different patches."""
    return BagError(
        f"slide {slide_id}: encoder {encoder.name} gave the same vector for all {n_patches} patches, but "
        "these differ; expected different vectors; check its weights and normalisation"
    )

"""Statistics of the two stains: an encoder without weights, for trials and for the demo."""

import numpy as np
from jaxtyping import Float, Float32

from hardmil.encoders.encoder import Patches
from hardmil.slides.reading import resize_patches

NAME = "stain-statistics"
STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
"""Optical densities of haematoxylin and eosin in red, green and blue. Source: Ruifrok and Johnston 2001."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EDGE_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.97)
"""Of the change of density from pixel to pixel: large at the edges of nuclei and in coarse chromatin."""
BLOCKS_PX = (1, 2, 4, 8)
"""Edges of the blocks over which stain is averaged before its spread is taken: from chromatin to nuclei."""
DIM = len(STAINS) * (len(QUANTILES) + len(EDGE_QUANTILES) + len(BLOCKS_PX))


class StainStatistics:
    """A `PatchEncoder` of 28 numbers: of each stain, its density, its edges, and its spread at four scales.

    Nothing is learned, so it is quick and weak: for slides of patients, use a network.
    """

    name = NAME
    batch_size = 512
    trained_px: int | None = None
    um_per_px: float | None = None

    def __init__(self, *, input_px: int | None = None) -> None:
        self.input_px = input_px

    def embed(self, patches: Patches) -> Float32[np.ndarray, "patch dim"]:
        """The statistics of each patch. Pixels that do not fill a block do not count in its scale."""
        planes = stain_planes(resize_patches(patches, size_px=self.input_px))
        densities, edges = quantiles(planes, QUANTILES), quantiles(changes(planes), EDGE_QUANTILES)
        spreads = [block_means(planes, edge_px=edge).std(axis=(2, 3)) for edge in BLOCKS_PX]
        columns = np.concatenate([densities, edges, np.stack(spreads)])
        return columns.transpose(1, 2, 0).reshape(len(patches), DIM).astype(np.float32)


def stain_planes(patches: Patches) -> Float32[np.ndarray, "patch stain size size"]:
    """Density of haematoxylin and of eosin at each pixel, by the Beer-Lambert law; white is 0."""
    levels = np.arange(256).clip(1)
    density = -np.log(levels / 255).astype(np.float32)[patches]
    unmixed = density @ np.linalg.pinv(STAINS).astype(np.float32)
    return np.moveaxis(unmixed, -1, 1)


def changes(
    planes: Float32[np.ndarray, "patch stain size size"],
) -> Float32[np.ndarray, "patch stain smaller smaller"]:
    """How much density changes from each pixel to the next, right and down; the last of both is left out."""
    right, down = np.diff(planes, axis=3)[:, :, :-1], np.diff(planes, axis=2)[..., :-1]
    return np.hypot(right, down)


def quantiles(
    planes: Float32[np.ndarray, "patch stain size size"], shares: tuple[float, ...]
) -> Float[np.ndarray, "share patch stain"]:
    """Quantiles of the pixels of each plane."""
    return np.quantile(planes.reshape(*planes.shape[:2], -1), shares, axis=-1)


def block_means(
    planes: Float32[np.ndarray, "patch stain size size"], *, edge_px: int
) -> Float32[np.ndarray, "patch stain small small"]:
    """Means over blocks of `edge_px` pixels; the rest at the right and bottom is left out."""
    n = planes.shape[-1] // edge_px
    part = planes[..., : n * edge_px, : n * edge_px]
    return part.reshape(*part.shape[:2], n, edge_px, n, edge_px).mean(axis=(3, 5))

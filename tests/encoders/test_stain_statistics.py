import numpy as np
import pytest

from hardmil.encoders.open_encoder import open_encoder
from hardmil.encoders.stain_statistics import (
    BLOCKS_PX,
    EDGE_QUANTILES,
    QUANTILES,
    STAINS,
    StainStatistics,
    block_means,
    changes,
)

N = len(QUANTILES) + len(EDGE_QUANTILES) + len(BLOCKS_PX)


def patch_of(haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """RGB of a patch with these densities of the stains at each pixel."""
    density = haematoxylin[..., None] * STAINS[0] + eosin[..., None] * STAINS[1]
    return np.rint(255 * np.exp(-density)).astype(np.uint8)


def test_quantiles_are_those_of_each_stain():
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    (found,) = StainStatistics().embed(patch_of(ramp, np.full((32, 32), 0.4))[None])
    np.testing.assert_allclose(found[: len(QUANTILES)], QUANTILES, atol=0.02)
    np.testing.assert_allclose(found[N : N + len(QUANTILES)], 0.4, atol=0.02)


def test_glass_has_no_stain_and_black_is_finite():
    white, black = (np.full((16, 16, 3), value, np.uint8) for value in (255, 0))
    found = StainStatistics().embed(np.stack([white, black]))
    assert (found[0] == 0).all()
    assert np.isfinite(found).all()
    assert found[1, 2] > 2


def test_spread_over_blocks_shows_the_scale_of_the_texture():
    """Stripes two pixels wide vary from pixel to pixel, and not at all between blocks of four."""
    stripes = np.tile(np.repeat([0.0, 1.0], 2), (32, 8))
    (found,) = StainStatistics().embed(patch_of(stripes, np.zeros((32, 32)))[None])
    spread = found[N - len(BLOCKS_PX) : N]
    np.testing.assert_allclose(spread[:2], 0.5, atol=0.02)
    np.testing.assert_allclose(spread[2:], 0, atol=0.01)


def test_changes_against_a_loop():
    planes = np.random.default_rng(0).random((2, 2, 5, 5), dtype=np.float32)
    found = changes(planes)
    assert found.shape == (2, 2, 4, 4)
    plane = planes[1, 0]
    for row in range(4):
        for column in range(4):
            right = plane[row, column + 1] - plane[row, column]
            down = plane[row + 1, column] - plane[row, column]
            assert found[1, 0, row, column] == pytest.approx(np.hypot(right, down), abs=1e-6)


def test_edges_are_where_density_changes():
    """Half of the patch is stained: only one pixel in 31 is at the edge, which the highest quantile sees."""
    half = np.zeros((32, 32))
    half[:, 16:] = 1.0
    (found,) = StainStatistics().embed(patch_of(half, np.zeros((32, 32)))[None])
    edges = found[len(QUANTILES) : len(QUANTILES) + len(EDGE_QUANTILES)]
    np.testing.assert_allclose(edges[:-1], 0, atol=0.02)
    assert edges[-1] > 0.05


def test_block_means_against_a_loop():
    planes = np.random.default_rng(0).random((2, 2, 11, 11), dtype=np.float32)
    found = block_means(planes, edge_px=4)
    assert found.shape == (2, 2, 2, 2)
    for row in range(2):
        for column in range(2):
            block = planes[1, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert found[1, 0, row, column] == pytest.approx(block.mean(), abs=1e-6)


def test_it_is_opened_by_name_and_resizes_if_asked():
    patches = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
    encoder = open_encoder("stain-statistics")
    assert (encoder.name, encoder.embed(patches).shape) == ("stain-statistics", (3, 2 * N))
    resized = open_encoder("stain-statistics", input_px=16)
    assert not np.allclose(resized.embed(patches), encoder.embed(patches))

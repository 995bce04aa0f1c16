import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardmil.config.patches import Equalise
from hardmil.slides.color import equalise

images = arrays(
    np.uint8,
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.just(3)),
    elements=st.integers(0, 255),
)


def equalise_by_hand(channel: np.ndarray) -> np.ndarray:
    """Histogram equalisation, pixel by pixel: the darkest value becomes 0, the brightest 255."""
    values = channel.ravel().tolist()
    darkest = min(values)
    n_darkest = values.count(darkest)
    if n_darkest == len(values):
        return channel.copy()
    scale = np.float32(255) / np.float32(len(values) - n_darkest)
    out = np.empty_like(channel)
    for place in np.ndindex(channel.shape):
        n_not_above = sum(value <= channel[place] for value in values) - n_darkest
        out[place] = np.rint(np.float32(n_not_above) * scale)
    return out


@given(images)
def test_channels_equal_a_plain_loop(patches: np.ndarray):
    before = patches.copy()
    equal = equalise(patches, mode="channel")
    for patch, expected in zip(equal, patches, strict=True):
        for channel in range(3):
            np.testing.assert_array_equal(patch[..., channel], equalise_by_hand(expected[..., channel]))
    np.testing.assert_array_equal(patches, before)


@given(images)
def test_luminance_equals_a_plain_loop(patches: np.ndarray):
    equal = equalise(patches, mode="luminance")
    for patch, original in zip(equal, patches.astype(float), strict=True):
        red, green, blue = original[..., 0], original[..., 1], original[..., 2]
        luminance = 0.299 * red + 0.587 * green + 0.114 * blue
        cr, cb = (np.rint((part - np.rint(luminance)) * by) for part, by in ((red, 0.713), (blue, 0.564)))
        new = equalise_by_hand(np.rint(luminance).astype(np.uint8)).astype(float)
        rgb = np.stack([new + 1.403 * cr, new - 0.714 * cr - 0.344 * cb, new + 1.773 * cb], axis=-1)
        # OpenCV rounds chroma in fixed point, and a pixel's luminance on the edge of two values may fall
        # either way: compare where it does not.
        is_clear = np.abs(luminance % 1 - 0.5) > 0.01
        if is_clear.all():
            np.testing.assert_allclose(patch, rgb.clip(0, 255), atol=3.5)


def test_none_copies_the_patches():
    patches = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    same = equalise(patches, mode="none")
    np.testing.assert_array_equal(same, patches)
    assert not np.shares_memory(same, patches)


@pytest.mark.parametrize("mode", ["channel", "luminance", "image", "none"])
@given(patches=images, turns=st.integers(0, 3), flip=st.booleans())
def test_equalising_commutes_with_flips_and_quarter_turns(
    mode: Equalise, patches: np.ndarray, turns: int, flip: bool
):
    def move(images: np.ndarray) -> np.ndarray:
        turned = np.rot90(images, turns, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if flip else turned)

    np.testing.assert_array_equal(equalise(move(patches), mode=mode), move(equalise(patches, mode=mode)))


def _stained_image(seed: int, *, glass_rows: int) -> np.ndarray:
    """An image of 60 x 60 px: stained tissue with some rows of glass above it."""
    rng = np.random.default_rng(seed)
    rgb = np.stack([rng.integers(low, low + 70, (60, 60)) for low in (130, 60, 110)], axis=-1)
    rgb[:glass_rows] = rng.integers(240, 246, (glass_rows, 60, 1))
    return rgb.astype(np.uint8)


def _cut(rgb: np.ndarray, size: int = 20) -> np.ndarray:
    n = len(rgb) // size
    return rgb.reshape(n, size, n, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)


def test_an_image_has_one_table_for_all_patches():
    patches = _cut(_stained_image(0, glass_rows=20))
    equal = equalise(patches, mode="image")
    for channel in range(3):
        before, after = patches[..., channel].ravel(), equal[..., channel].ravel()
        table = {int(b): set() for b in np.unique(before)}
        for b, a in zip(before.tolist(), after.tolist(), strict=True):
            table[b].add(a)
        assert all(len(values) == 1 for values in table.values())
        rising = [next(iter(table[b])) for b in sorted(table)]
        assert rising == sorted(rising)


def test_glass_does_not_change_how_tissue_is_equalised():
    tissue = _cut(_stained_image(1, glass_rows=0))[3:]
    glass = np.full((6, 20, 20, 3), 244, np.uint8)
    some = equalise(np.concatenate([glass[:3], tissue]), mode="image")[3:]
    more = equalise(np.concatenate([glass, tissue]), mode="image")[6:]
    np.testing.assert_array_equal(some, more)
    # The tissue uses the whole range, evenly.
    for channel in range(3):
        deciles = np.quantile(some[..., channel], np.arange(0.1, 1, 0.1))
        np.testing.assert_allclose(deciles, 255 * np.arange(0.1, 1, 0.1), atol=8)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_of_one_colour_stays_as_it_is(value: int):
    patches = np.full((2, 5, 5, 3), value, np.uint8)
    np.testing.assert_array_equal(equalise(patches, mode="image"), patches)


def test_each_patch_is_equalised_alone():
    dark, bright = np.full((2, 5, 7, 3), 30, np.uint8)
    dark[0, 0], bright[:2] = 10, 200
    both = equalise(np.stack([dark, bright]), mode="channel")
    np.testing.assert_array_equal(both[0], equalise(dark[None], mode="channel")[0])
    np.testing.assert_array_equal(both[1], equalise(bright[None], mode="channel")[0])


@pytest.mark.parametrize("mode", ["none", "channel", "luminance", "image"])
def test_no_patches_give_no_patches(mode: Equalise):
    assert equalise(np.empty((0, 27, 27, 3), np.uint8), mode=mode).shape == (0, 27, 27, 3)

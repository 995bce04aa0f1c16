import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardmil.slides.color import Equalise, equalise

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


@pytest.mark.parametrize("mode", ["channel", "luminance", "none"])
@given(patches=images, turns=st.integers(0, 3), flip=st.booleans())
def test_equalising_commutes_with_flips_and_quarter_turns(
    mode: Equalise, patches: np.ndarray, turns: int, flip: bool
):
    def move(images: np.ndarray) -> np.ndarray:
        turned = np.rot90(images, turns, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if flip else turned)

    np.testing.assert_array_equal(equalise(move(patches), mode=mode), move(equalise(patches, mode=mode)))


def test_each_patch_is_equalised_alone():
    dark, bright = np.full((2, 5, 7, 3), 30, np.uint8)
    dark[0, 0], bright[:2] = 10, 200
    both = equalise(np.stack([dark, bright]), mode="channel")
    np.testing.assert_array_equal(both[0], equalise(dark[None], mode="channel")[0])
    np.testing.assert_array_equal(both[1], equalise(bright[None], mode="channel")[0])


def test_no_patches_give_no_patches():
    assert equalise(np.empty((0, 27, 27, 3), np.uint8), mode="channel").shape == (0, 27, 27, 3)

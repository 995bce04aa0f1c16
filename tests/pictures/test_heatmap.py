from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps

from hardmil.errors import ConfigError
from hardmil.files.geojson import Region, square
from hardmil.geometry import Downsample, Frame
from hardmil.pictures.drawing import length_text, png_bytes, resized, scale_bar_um
from hardmil.pictures.heatmap import (
    COLOUR_MAP,
    OPACITY,
    SIGNED_COLOUR_MAP,
    HeatmapQuantity,
    Scale,
    SlideAttention,
    attention_figure,
    attention_overlay,
    attention_ranks,
    attention_shades,
    shades_of,
)

TISSUE = (230, 170, 200)
# A slide of 960 x 640 level-0 px at a downsample of 8: 80 rows of 120 columns.
THUMBNAIL = np.full((80, 120, 3), TISSUE, dtype=np.uint8)
FRAME = Frame(0, 0, Downsample(8.0, 8.0))
COORDS = np.array([[640, 64], [64, 320], [320, 480]], dtype=np.int64)
ATTENTION = np.array([0.7, 0.2, 0.1])


def _overlay(**changed: object) -> np.ndarray:
    given = {"coords": COORDS, "size_level0_px": 64, "attention": ATTENTION, "frame": FRAME} | changed
    return attention_overlay(THUMBNAIL, **given)  # pyright: ignore[reportArgumentType]


def _blend(rank: float) -> np.ndarray:
    colour = np.array(colormaps[COLOUR_MAP](rank)[:3]) * 255
    return np.rint(OPACITY * colour + (1 - OPACITY) * np.array(TISSUE)).astype(np.uint8)


def test_each_patch_has_its_colour_and_the_rest_is_unchanged():
    expected = THUMBNAIL.copy()
    for (x, y), rank in zip(COORDS // 8, (1.0, 0.5, 0.0), strict=True):
        for row in range(y, y + 8):
            for column in range(x, x + 8):
                expected[row, column] = _blend(rank)
    np.testing.assert_allclose(_overlay().astype(int), expected.astype(int), atol=1)
    assert ((_overlay() == TISSUE).all(axis=2) == (expected == TISSUE).all(axis=2)).all()


def test_the_patch_with_most_attention_is_at_its_coordinates():
    overlay = _overlay().astype(int)
    distance = np.abs(overlay - _blend(1.0).astype(int)).sum(axis=2)
    rows, columns = np.nonzero(distance == 0)
    assert (columns.min() * 8, rows.min() * 8) == (640, 64)


def test_overlapping_patches_show_the_higher_attention():
    coords = np.array([[0, 0], [32, 32]], dtype=np.int64)
    for attention in (np.array([0.9, 0.1]), np.array([0.1, 0.9])):
        overlay = _overlay(coords=coords, attention=attention)
        np.testing.assert_array_equal(overlay[6, 6], _blend(1.0))


def test_patches_smaller_than_a_pixel_and_beyond_the_edge():
    coords = np.array([[80, 40], [955, 635]], dtype=np.int64)
    overlay = _overlay(coords=coords, attention=np.array([0.4, 0.6]), size_level0_px=3)
    np.testing.assert_array_equal(overlay[5, 10], _blend(0.0))
    np.testing.assert_array_equal(overlay[79, 119], _blend(1.0))
    assert (overlay != THUMBNAIL).any(axis=2).sum() <= 2


def test_input_is_not_changed():
    _overlay()
    assert (THUMBNAIL == TISSUE).all()


@given(st.lists(st.integers(0, 5).map(float), min_size=2, max_size=20))
def test_ranks_equal_a_plain_loop(values: list[float]):
    others = len(values) - 1
    expected = [
        (sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2) / others
        for value in values
    ]
    np.testing.assert_allclose(attention_ranks(np.array(values)), expected)


def test_ranks_of_one_patch_and_of_equal_attention():
    assert attention_ranks(np.array([1.0])).tolist() == [0.5]
    assert attention_ranks(np.array([0.25, 0.25, 0.25, 0.25])).tolist() == [0.5] * 4


def test_flat_attention_is_shown_flat():
    assert attention_shades(np.array([0.200, 0.201, 0.199, 0.205])).tolist() == [0.5] * 4
    assert attention_shades(np.array([0.2, 0.3, 0.1])).tolist() == [0.5, 1.0, 0.0]


SIGNED = SlideAttention("s", "tumour", 0.75, COORDS, 64, ATTENTION, contribution=np.array([0.2, -0.8, 0.0]))


def test_shades_by_rank_and_raw():
    def shades(of: HeatmapQuantity, scale: Scale) -> list[float]:
        return shades_of(SIGNED, quantity=of, scale=scale).tolist()

    assert shades("attention", "rank") == [1.0, 0.5, 0.0]
    assert shades("attention", "raw") == pytest.approx([1.0, 2 / 7, 1 / 7])
    assert shades("contribution", "raw") == pytest.approx([0.625, 0.0, 0.5])
    assert shades("contribution", "rank") == pytest.approx([0.75, 0.0, 0.5])


def test_a_pooling_without_contributions_is_refused():
    with pytest.raises(ConfigError, match=r"slide s: .*not a sum over instances.*attention"):
        shades_of(replace(SIGNED, contribution=None), quantity="contribution", scale="raw")


def test_contributions_have_the_colour_of_their_class():
    png = attention_figure(SIGNED, thumbnail=THUMBNAIL, frame=FRAME, quantity="contribution", scale="raw")
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)

    def place(shade: float) -> tuple[int, int]:
        colour = np.array(colormaps[SIGNED_COLOUR_MAP](shade)[:3]) * 255
        blend = OPACITY * colour + (1 - OPACITY) * np.array(TISSUE)
        rows, columns = np.nonzero(np.abs(image.astype(int) - blend).max(axis=2) <= 2)
        return int(np.median(rows)), int(np.median(columns))

    against, towards = place(0.0), place(0.625)
    assert against[0] > towards[0]  # planted at y 320 and y 64
    assert against[1] < towards[1]  # at x 64 and x 640


def _figure(**changed: object) -> np.ndarray:
    given = {
        "slide_id": "s1 $5",
        "label": "tumour",
        "bag_score": 0.75,
        "coords": COORDS,
        "size_level0_px": 64,
        "attention": ATTENTION,
    }
    slide = SlideAttention(**(given | changed))  # pyright: ignore[reportArgumentType]
    png = attention_figure(slide, thumbnail=THUMBNAIL, frame=FRAME)
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)


def _n_like(image: np.ndarray, colour: np.ndarray) -> int:
    return int((np.abs(image.astype(int) - colour.astype(int)).max(axis=2) <= 2).sum())


def test_figure_shows_tissue_left_and_attention_right():
    image = _figure()
    rows, columns = np.nonzero(np.abs(image.astype(int) - _blend(1.0).astype(int)).max(axis=2) <= 2)
    height, width = image.shape[:2]
    assert len(rows) > 100
    assert columns.min() > width / 2  # x 640 of 960 in the right panel
    assert rows.max() < height / 2  # y 64 of 640
    assert _n_like(image[:, : width // 2], np.array(TISSUE)) > _n_like(
        image[:, width // 2 :], np.array(TISSUE)
    )


def test_scale_bar_only_with_mpp_and_truth_only_if_given():
    def n_black(**changed: object) -> int:
        return int((_figure(**changed).max(axis=2) < 40).sum())

    bare = n_black()
    assert n_black(mpp=0.5) > bare + 50
    truth = [Region(square(100, 100, 300), "lesion"), Region(square(500, 200, 100), "look-alike")]
    assert n_black(truth=truth) > bare + 500


def test_wide_slides_are_stacked():
    wide = np.full((40, 160, 3), TISSUE, dtype=np.uint8)
    slide = SlideAttention("s", None, 0.1, COORDS // 4, 32, ATTENTION)
    png = attention_figure(slide, thumbnail=wide, frame=FRAME)
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    tissue_rows = (np.abs(image.astype(int) - np.array(TISSUE)).max(axis=2) <= 2).sum(axis=1)
    changes = np.diff((tissue_rows > 300).astype(int))
    assert (changes == 1).sum() >= 2  # two bands of tissue, one below the other


@pytest.mark.parametrize(
    ("width", "bar"), [(1000.0, 200.0), (400.0, 100.0), (99.0, 20.0), (8000.0, 2000.0), (1.0, 0.2)]
)
def test_scale_bar_is_a_round_length_of_at_most_a_quarter(width: float, bar: float):
    assert scale_bar_um(width) == pytest.approx(bar)


def test_lengths_as_text():
    assert [length_text(um) for um in (0.5, 200.0, 2000.0)] == ["0.5 µm", "200 µm", "2 mm"]


def test_png_keeps_colours():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    back = cv2.imdecode(np.frombuffer(png_bytes(image), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(back, image)


def test_resized_keeps_a_flat_colour():
    for edge in (3, 64):
        np.testing.assert_array_equal(resized(THUMBNAIL[:20, :20], edge_px=edge)[0, 0], TISSUE)
        assert resized(THUMBNAIL[:20, :20], edge_px=edge).shape == (edge, edge, 3)

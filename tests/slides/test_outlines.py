import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon

from hardmil.errors import TableError
from hardmil.files.geojson import Region, square
from hardmil.geometry import Downsample
from hardmil.slides import outlines as outlines_module
from hardmil.slides.outlines import inside, outlines

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
places = st.floats(-20, 60, allow_nan=False)
polygons = st.lists(st.tuples(places, places), min_size=3, max_size=8).map(np.array)


@given(masks, st.sampled_from([(1.0, 1.0), (2.5, 2.5), (16.0, 15.2)]))
def test_filled_outlines_restore_the_mask(is_inside: np.ndarray, factors: tuple[float, float]):
    downsample = Downsample(*factors)
    regions = outlines(is_inside, downsample=downsample, name="tissue")
    assert {region.name for region in regions} <= {"tissue"}
    np.testing.assert_array_equal(inside(regions, shape=is_inside.shape, downsample=downsample), is_inside)


def test_pieces_are_sorted_by_size_and_have_their_holes():
    is_inside = np.zeros((20, 40), dtype=bool)
    is_inside[2:6, 2:6] = True
    is_inside[2:18, 10:38] = True
    is_inside[8:12, 20:30] = False
    large, small = outlines(is_inside, downsample=Downsample(4.0, 4.0), name="tissue")
    assert (large.polygon.min(axis=0).tolist(), large.polygon.max(axis=0).tolist()) == ([41, 9], [151, 71])
    assert [hole.min(axis=0).tolist() for hole in large.holes] == [[79, 31]]
    assert (small.polygon.min(axis=0).tolist(), small.holes) == ([9, 9], ())


@given(polygons, st.sampled_from([(1.0, 1.0), (2.5, 4.5)]))
def test_inside_is_the_even_odd_rule_at_the_centre_of_a_pixel(
    polygon: np.ndarray, factors: tuple[float, float]
):
    shape, downsample = (9, 13), Downsample(*factors)
    found = inside([Region(polygon, "any")], shape=shape, downsample=downsample)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x, y = (column + 0.5) * downsample.x, (row + 0.5) * downsample.y
            crossings = _crossings(polygon, y)
            # On an edge, rounding decides on which side a centre is.
            if np.abs(crossings - x).min(initial=np.inf) > 1e-6:
                assert found[row, column] == ((crossings < x).sum() % 2 == 1), (row, column)


def _crossings(polygon: np.ndarray, y: float) -> np.ndarray:
    """x at which the edges of a polygon cross a horizontal line."""
    return np.array(
        [
            x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True)
            if min(y0, y1) <= y < max(y0, y1)
        ]
    )


def test_polygons_outside_the_mask_and_next_to_each_other():
    far = Region(square(500, 500, 9), "far")
    above = Region(square(-30, -30, 40), "above")
    assert inside([far], shape=(6, 8), downsample=Downsample(1.0, 1.0)).sum() == 0
    assert inside([above, far], shape=(6, 8), downsample=Downsample(4.0, 4.0))[:3, :3].sum() == 4
    both = [Region(square(0, 0, 4), "a"), Region(square(2, 0, 4), "b")]
    assert inside(both, shape=(6, 8), downsample=Downsample(1.0, 1.0)).sum() == 24


def test_inside_equals_matplotlib():
    rng = np.random.default_rng(0)
    polygon = np.stack([np.cos(t := np.sort(rng.uniform(0, 6.28, 40))), np.sin(t)], axis=1)
    polygon = polygon * rng.uniform(20, 60, (40, 1)) + 70.3
    points = np.stack(np.meshgrid(np.arange(140) + 0.5, np.arange(150) + 0.5), axis=-1).reshape(-1, 2)
    expected = Polygon(polygon).contains_points(points).reshape(150, 140)
    np.testing.assert_array_equal(
        inside([Region(polygon, "any")], shape=(150, 140), downsample=Downsample(1.0, 1.0)), expected
    )


def test_many_regions_are_the_union_of_each(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    regions = [
        Region(rng.uniform(-5, 45, (n, 2)), "any", holes=(rng.uniform(0, 40, (3, 2)),))
        for n in (3, 4, 7, 12, 5)
    ]
    shape, downsample = (31, 23), Downsample(1.5, 1.3)
    each = [inside([region], shape=shape, downsample=downsample) for region in regions]
    for batch in (1, 50, 10**6):
        monkeypatch.setattr(outlines_module, "BATCH", batch)
        np.testing.assert_array_equal(
            inside(regions, shape=shape, downsample=downsample), np.any(each, axis=0)
        )
    assert not inside([], shape=shape, downsample=downsample).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [("MAX_CROSSINGS", "2 outlines cross .* 40 times"), ("MAX_CROSSINGS_OF_ONE", "one outline")],
)
def test_outlines_that_take_too_long_are_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch):
    regions = [Region(square(0, 0, 10), "any")] * 2
    assert inside(regions, shape=(20, 20), downsample=Downsample(1.0, 1.0)).sum() == 100
    monkeypatch.setattr(outlines_module, name, 19)
    with pytest.raises(TableError, match=f"{message}.*expected at most 19; simplify"):
        inside(regions, shape=(20, 20), downsample=Downsample(1.0, 1.0))

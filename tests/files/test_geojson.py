import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hardmil.errors import TableError
from hardmil.files import geojson
from hardmil.files.geojson import Region, read_regions, regions_next_to, square, write_regions

coordinates = st.integers(-1000, 200_000).map(lambda value: value / 4)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9, unique=True).map(np.array)
# The fields of a Region, which is built in the test: beartype checks a random element of a tuple.
parts_of_regions = st.fixed_dictionaries(
    {
        "polygon": polygons,
        "name": st.text(min_size=1),
        "measurements": st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
        "holes": st.lists(polygons, max_size=2).map(tuple),
    }
)


def test_file_has_the_layout_of_qupath(tmp_path: Path):
    path = tmp_path / "slide.geojson"
    write_regions(path, [Region(square(10, 20, 64), "lesion", {"attention": 0.25})], object_type="tile")
    assert json.loads(path.read_text()) == {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[10, 20], [74, 20], [74, 84], [10, 84], [10, 20]]],
                },
                "properties": {
                    "objectType": "tile",
                    "isLocked": False,
                    "measurements": {"attention": 0.25},
                    "classification": {"name": "lesion"},
                },
            }
        ],
    }


def test_coordinates_in_the_file_start_at_the_origin(tmp_path: Path):
    path = tmp_path / "slide.geojson"
    hole = square(1020, 2030, 8)
    write_regions(path, [Region(square(1010, 2020, 64), "lesion", holes=(hole,))], origin=(1000, 2000))
    rings = json.loads(path.read_text())["features"][0]["geometry"]["coordinates"]
    assert [ring[0] for ring in rings] == [[10, 20], [20, 30]]
    (read,) = read_regions(path, origin=(1000, 2000))
    np.testing.assert_array_equal(read.polygon, square(1010, 2020, 64))
    np.testing.assert_array_equal(read.holes[0], hole)
    (next_to,) = regions_next_to(tmp_path / "slide.scn", origin=(1000, 2000)) or []
    np.testing.assert_array_equal(next_to.polygon, square(1010, 2020, 64))


@given(st.lists(parts_of_regions, max_size=4))
def test_read_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, parts: list[dict]):
    written = [Region(**part) for part in parts]
    path = tmp_path_factory.mktemp("geojson") / "regions.geojson"
    write_regions(path, written)
    read = read_regions(path)
    assert [(item.name, item.measurements) for item in read] == [
        (item.name, item.measurements) for item in written
    ]
    for found, expected in zip(read, written, strict=True):
        np.testing.assert_array_equal(found.polygon, expected.polygon)
        assert [hole.tolist() for hole in found.holes] == [hole.tolist() for hole in expected.holes]


def test_files_of_older_qupath_are_read(tmp_path: Path):
    """A bare list of features, measurements as pairs, a multipolygon with a hole, no classification."""
    ring, hole = [[0, 0], [9, 0], [9, 9], [0, 0]], [[2, 1], [3, 1], [3, 2], [2, 1]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": [[ring, hole], [hole]]},
        "properties": {"measurements": [{"name": "area", "value": 3}]},
    }
    path = tmp_path / "old.geojson"
    path.write_text(json.dumps([feature]))
    first, second = read_regions(path)
    np.testing.assert_array_equal(first.polygon, ring[:-1])
    np.testing.assert_array_equal(second.polygon, hole[:-1])
    assert [one.tolist() for one in first.holes] == [hole[:-1]]
    assert second.holes == ()
    assert first.name == ""
    assert first.measurements == {"area": 3.0}


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"names": ["Artefact", "Fold"], "color": [200, 0, 0]}, "Artefact: Fold"),
        ({"names": ["Tumour"]}, "Tumour"),
        ({"name": "Tumour: Invasive"}, "Tumour: Invasive"),
        ({"name": None}, ""),
        ({"color": [200, 0, 0]}, ""),
        (None, ""),
    ],
)
def test_classes_of_all_versions_of_qupath(tmp_path: Path, classification: object, name: str):
    ring = [[0, 0], [9, 0], [9, 9], [0, 0]]
    feature = {
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": classification},
    }
    path = tmp_path / "classes.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert [region.name for region in read_regions(path)] == [name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ('{"type": "FeatureCollection"}', "'features'"),
        ("[1]", "no attribute 'get'"),
        ('[{"geometry": {"type": "Circle", "coordinates": [1, 2]}}]', "found a Circle"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}}]', "not closed"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}}]', "three corners"),
        (
            '[{"geometry": {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, '
            '"properties": {"classification": {"name": "Tumour"}}}]',
            "found a line of class Tumour, which has no area",
        ),
        ('[{"geometry": null, "properties": {"measurements": 3}}]', "found measurements 3"),
    ],
)
def test_file_without_geojson_polygons_is_named(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "broken.geojson"
    path.write_text(text)
    with pytest.raises(TableError, match=rf"broken\.geojson: is not GeoJSON .*\(.*{reason}"):
        read_regions(path)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(TableError, match=r"none\.geojson: cannot be read \(No such file"):
        read_regions(tmp_path / "none.geojson")


def test_measurement_that_json_cannot_store_is_refused_and_nothing_written(tmp_path: Path):
    path = tmp_path / "regions.geojson"
    with pytest.raises(TableError, match=r"measurement 'attention' of 'lesion' is nan; .*leave it out"):
        write_regions(path, [Region(square(0, 0, 1), "lesion", {"attention": float("nan")})])
    assert not path.exists()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
keys = st.sampled_from(
    ["type", "features", "geometry", "coordinates", "properties", "classification", "name", "measurements"]
)
kinds = st.sampled_from(["Polygon", "MultiPolygon", "Point", "FeatureCollection"])
anything = st.recursive(
    scalars | kinds,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)
geometries = st.fixed_dictionaries({"type": kinds, "coordinates": anything})
features = st.fixed_dictionaries({"geometry": geometries | anything, "properties": anything})


def _read_or_named(path: Path) -> list[Region]:
    """The regions, or none and an error that names the file; anything else is a bug."""
    try:
        return read_regions(path)
    except TableError as error:
        if str(path) not in str(error):
            raise
        return []


@given(anything | st.lists(features, max_size=3))
def test_any_json_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, content: object):
    path = tmp_path_factory.getbasetemp() / "any.geojson"
    path.write_text(json.dumps(content))
    assert all(len(region.polygon) >= 3 for region in _read_or_named(path))


@given(st.binary(max_size=40))
@example(b"[" * 100_000)
def test_any_bytes_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "any.geojson"
    path.write_bytes(content)
    assert _read_or_named(path) == []


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]}
LINE = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    "content",
    [
        {"type": "Feature", "geometry": SQUARE, "properties": {}},
        [{"geometry": SQUARE}, {"geometry": {"type": "Point", "coordinates": [1, 2]}}],
        [{"geometry": {"type": "MultiPoint", "coordinates": [[1, 2]]}}, {"geometry": SQUARE}],
        [{"geometry": LINE}, {"geometry": SQUARE}],
        [{"geometry": None}, {"geometry": SQUARE}],
        [{"geometry": {"type": "Polygon", "coordinates": []}}, {"geometry": SQUARE}],
        [{"geometry": {"type": "GeometryCollection", "geometries": [SQUARE, LINE]}}],
        [
            {
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[x, y, 3] for x, y in SQUARE["coordinates"][0]]],
                }
            }
        ],
        [{"geometry": SQUARE, "properties": {"measurements": {"area": None}}}],
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_areas_are_read_from_what_qupath_exports_and_other_objects_left_out(
    tmp_path: Path, content: object, encoding: str
):
    path = tmp_path / "exported.geojson"
    path.write_text(json.dumps(content), encoding=encoding)
    (region,) = read_regions(path)
    np.testing.assert_array_equal(region.polygon, [[0, 0], [9, 0], [9, 9], [0, 9]])
    assert region.measurements == {}


def test_small_files_that_take_long_or_wait_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.geojson"
    write_regions(path, [Region(square(0, 0, 10), "a")] * 3)
    assert len(read_regions(path)) == 3
    monkeypatch.setattr(geojson, "MAX_OBJECTS", 2)
    with pytest.raises(TableError, match=r"a\.geojson: .*found 3 objects, more than 2"):
        read_regions(path)
    path.write_text("[" * 100_000)
    with pytest.raises(TableError, match=r"a\.geojson: is not GeoJSON"):
        read_regions(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(
        TableError, match=r"a\.geojson: cannot be read \(it is a named pipe, expected a file\)"
    ):
        read_regions(path)


@pytest.mark.parametrize("corner", ["Infinity", "1e300", "-1e13"])
def test_corners_that_are_on_no_slide_are_refused(tmp_path: Path, corner: str):
    path = tmp_path / "a.geojson"
    write_regions(path, [Region(square(12345, 0, 10), "a")])
    path.write_text(path.read_text().replace("12345.0", corner))
    with pytest.raises(TableError, match="a corner that is not on any slide"):
        read_regions(path)

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, class_score
from tests.support.pyramids import row_of
from tests.support.scanned_area import HEIGHT_PX, ORIGIN, TUMOUR, WIDTH_PX, write_scn

from hardmil.bags.bag import Bag
from hardmil.bundles.slide_files import HeatmapOptions, write_slide_files
from hardmil.mil.bag_score import BagScore
from hardmil.slides.reader import open_slide


def test_tiles_and_heat_map_cover_the_scanned_area_as_qupath_shows_it(tmp_path: Path):
    row = row_of(write_scn(tmp_path / "s.scn"))
    coords = np.array([[ORIGIN[0] + TUMOUR[0], ORIGIN[1] + TUMOUR[1]], [ORIGIN[0] + 64, ORIGIN[1] + 64]])
    bag = Bag("s", "s", -1, np.zeros((2, 4), np.float32), coords, 32)
    score = BagScore(0.9, np.array([0.8, 0.2]), np.array([1.0, -1.0]))
    write_slide_files(
        tmp_path / "out",
        row,
        bag=bag,
        score=score,
        classes=("normal", "tumour"),
        heatmaps=HeatmapOptions(png=False, tiff=True),
        fallback_mpp=None,
        wants_small=False,
    )
    tiles = json.loads((tmp_path / "out" / "geojson" / "s.geojson").read_text())["features"]
    assert tiles[0]["geometry"]["coordinates"][0][0] == list(TUMOUR)
    assert tiles[1]["geometry"]["coordinates"][0][0] == [64, 64]
    with open_slide(tmp_path / "out" / "heatmaps" / "s.ome.tiff") as heatmap:
        assert heatmap.mpp == pytest.approx(2.0)
        assert (heatmap.width_px, heatmap.height_px) == (WIDTH_PX // 4, HEIGHT_PX // 4)
        picture = heatmap.read(0, 0, heatmap.width_px, heatmap.height_px)
    x, y = (edge // 4 for edge in TUMOUR)
    assert picture[y, x].tolist() == picture[y + 7, x + 7].tolist() == [253, 231, 37]
    assert picture[y, x - 1].tolist() == picture[y + 8, x].tolist() == [255, 255, 255]


def test_of_three_classes_each_has_its_heat_map_and_its_columns(tmp_path: Path):
    row = row_of(write_scn(tmp_path / "s.scn"))
    coords = np.array([[ORIGIN[0] + 64 * i, ORIGIN[1] + 64] for i in range(1, 6)])
    bag = Bag("s", "s", -1, np.zeros((5, 4), np.float32), coords, 32)
    small = write_slide_files(
        tmp_path / "out",
        row,
        bag=bag,
        score=class_score(bag, [0.2, 0.7, 0.1]),
        classes=EXCLUSIVE.names,
        task=EXCLUSIVE,
        heatmaps=HeatmapOptions(of_class="all", tiff=True),
        fallback_mpp=None,
        wants_small=True,
    )
    assert small is not None
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("s.*g")) == [
        f"heatmaps/{name}/s.png" for name in ("a", "b", "normal")
    ]
    assert (tmp_path / "out" / "heatmaps" / "b" / "s.ome.tiff").exists()
    tiles = json.loads((tmp_path / "out" / "geojson" / "s.geojson").read_text())["features"]
    named = [one["properties"]["classification"]["name"] for one in tiles]
    assert named[1] == "key patch for a"
    assert sorted(set(named)) == ["key patch for a", "patch"]
    measured = tiles[2]["properties"]["measurements"]
    assert measured["attention for b"] == 0.5
    assert measured["attention for a"] < 0.5
    assert {name.split(" for ")[0] for name in measured} == {"attention", "instance_logit", "contribution"}

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError
from hardmil.evaluation.truth import LESION, LOOK_ALIKE, truth_of_regions
from hardmil.files.geojson import Region, read_regions
from hardmil.phantom.cohort import write_cohort
from hardmil.phantom.slide import (
    EOSIN,
    GLASS,
    HAEMATOXYLIN,
    Foci,
    Phantom,
    draw_foci,
    draw_phantom,
    write_phantom,
)
from hardmil.slides.grid import place_patches
from hardmil.slides.reader import open_slide
from hardmil.slides.tissue import segment_strips


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return draw_phantom(7, lesion=True, look_alikes=True, width_px=960, height_px=700)


def inside(phantom: Phantom, *, name: str) -> np.ndarray:
    """Which pixels are in a region with this name."""
    area = np.zeros(phantom.rgb.shape[:2], np.uint8)
    polygons = [region.polygon.astype(np.int32) for region in phantom.regions if region.name == name]
    return cv2.fillPoly(area, polygons, 1) > 0


def find_tissue(rgb: np.ndarray) -> np.ndarray:
    return segment_strips([rgb], rule="s-or-v", downsample=1.0).is_tissue


def stains(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Haematoxylin and eosin of each pixel, by colour deconvolution."""
    density = -np.log(np.maximum(rgb, 1) / np.array(GLASS))
    amounts = density.reshape(-1, 3) @ np.linalg.pinv(np.array([HAEMATOXYLIN, EOSIN]))
    return tuple(amounts.T.reshape(2, *rgb.shape[:2]))


def test_same_seed_same_pixels_and_regions(phantom: Phantom):
    again = draw_phantom(7, lesion=True, look_alikes=True, width_px=960, height_px=700)
    np.testing.assert_array_equal(again.rgb, phantom.rgb)
    for one, other in zip(again.regions, phantom.regions, strict=True):
        np.testing.assert_array_equal(one.polygon, other.polygon)
    other_seed = draw_phantom(8, lesion=True, look_alikes=True, width_px=960, height_px=700)
    assert (other_seed.rgb != phantom.rgb).mean() > 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("lesion", "look_alikes", "names"),
    [
        (True, False, {"lesion"}),
        (False, True, {"look-alike"}),
        (True, True, {"lesion", "look-alike"}),
        (False, False, set()),
    ],
)
def test_slide_has_the_regions_asked_for(seed: int, lesion: bool, look_alikes: bool, names: set[str]):
    drawn = draw_phantom(seed, lesion=lesion, look_alikes=look_alikes)
    assert drawn.rgb.shape == (900, 1200, 3)
    assert drawn.mpp == 0.5
    assert {region.name for region in drawn.regions} == names


def test_foci_are_in_the_tissue_and_do_not_overlap(phantom: Phantom):
    areas = [
        inside(Phantom(phantom.rgb, [Region(region.polygon, "one")], 0.5), name="one")
        for region in phantom.regions
    ]
    assert np.sum(areas, axis=0).max() == 1
    is_tissue = find_tissue(phantom.rgb)
    assert all(is_tissue[area].mean() > 0.6 for area in areas)


def test_glass_is_white_and_surrounds_the_tissue(phantom: Phantom):
    frame = np.concatenate([phantom.rgb[0], phantom.rgb[-1], phantom.rgb[:, 0], phantom.rgb[:, -1]])
    np.testing.assert_allclose(np.median(frame, axis=0), GLASS, atol=1)
    assert 0.4 < find_tissue(phantom.rgb).mean() < 0.9


def test_colours_are_explained_by_two_stains(phantom: Phantom):
    """The residual is noise and the tint of the slide; foci are blue, stroma is pink."""
    haematoxylin, eosin = stains(phantom.rgb)
    vectors = np.array([HAEMATOXYLIN, EOSIN])
    explained = np.stack([haematoxylin, eosin], axis=-1) @ vectors
    left = -np.log(np.maximum(phantom.rgb, 1) / np.array(GLASS)) - explained
    assert np.abs(left).mean() < 0.03
    is_focus = inside(phantom, name="lesion") | inside(phantom, name="look-alike")
    is_stroma = find_tissue(phantom.rgb) & ~is_focus
    assert haematoxylin[is_focus].mean() > 3 * haematoxylin[is_stroma].mean()
    assert eosin[is_stroma].mean() > 1.3 * eosin[is_focus].mean()


def test_stain_varies_between_slides():
    """By more than the collagen alone, which varies by 0.07."""
    drawn = [
        draw_phantom(seed, lesion=False, look_alikes=False, width_px=500, height_px=400) for seed in range(8)
    ]
    eosin = [np.median(stains(slide.rgb)[1][find_tissue(slide.rgb)]) for slide in drawn]
    assert 0.09 < np.std(eosin) / np.mean(eosin) < 0.3


def test_slide_without_room_for_a_focus_is_refused():
    with pytest.raises(ConfigError, match="slide of 150 x 120 px has no room for a focus"):
        draw_phantom(0, lesion=True, look_alikes=False, width_px=150, height_px=120)


def test_number_and_size_of_foci_are_as_asked():
    """Outlines are irregular, so an area is only about that of a circle."""
    drawn = draw_phantom(
        4,
        lesion=True,
        look_alikes=True,
        width_px=900,
        height_px=700,
        foci=Foci(n=(2, 2), radius_px=(30.0, 31.0)),
    )
    assert [region.name for region in drawn.regions] == ["lesion"] * 2 + ["look-alike"] * 2
    areas = [cv2.contourArea(region.polygon.astype(np.float32)) for region in drawn.regions]
    np.testing.assert_allclose(areas, np.pi * 30.5**2, rtol=0.25)


def test_default_foci_do_not_change(phantom: Phantom):
    expected = [
        (376, 340),
        (572, 92),
        (556, 248),
        (508, 452),
        (820, 360),
        (280, 192),
        (792, 512),
        (248, 432),
        (772, 156),
    ]
    found = [region.polygon.mean(axis=0) for region in phantom.regions]
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_cohort_of_rare_foci_has_large_bags_and_few_patches_in_lesions(tmp_path: Path):
    """More than 1,000 patches, of which on a positive slide about one in fifty is in a lesion."""
    table = write_cohort(
        tmp_path,
        n_train=4,
        n_test=0,
        seed=0,
        size_px=(2150, 1540),
        foci=Foci(n=(3, 5), radius_px=(42.0, 62.0)),
    )
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shares = {"positive": [], "negative": []}
    for row in rows:
        truth = truth_of_slide(tmp_path / row["path"])
        assert len(truth) >= 1000
        shares[row["label"]].append(((truth == LESION).mean(), (truth == LOOK_ALIKE).mean()))
    assert all(0.005 < lesion < 0.03 for lesion, _ in shares["positive"])
    assert all(lesion == 0 for lesion, _ in shares["negative"])
    assert sorted(alike > 0 for _, alike in shares["negative"]) == [False, True]


def truth_of_slide(path: Path) -> np.ndarray:
    """The truth of the patches of a slide on disk: 32 um, with an overlap of a quarter."""
    with open_slide(path) as slide:
        grid = place_patches(slide, PatchConfig(size_px=40, overlap_px=10, um_per_px=0.8))
    empty = np.zeros((len(grid), 1), np.float32)
    bag = Bag("slide", "case", 0, instances=empty, coords=grid.coords, size_level0_px=grid.size_level0_px)
    return truth_of_regions(bag, regions=read_regions(path.with_suffix(".geojson")))


def test_file_is_a_pyramid_with_its_truth_next_to_it(phantom: Phantom, tmp_path: Path):
    path = tmp_path / "slide.tif"
    write_phantom(path, phantom)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)
        assert [(level.width_px, level.height_px) for level in slide.levels] == [(960, 700), (480, 350)]
        fine, coarse = slide.read(0, 0, 960, 700), slide.read(0, 0, 480, 350, 1)
    assert np.abs(fine.astype(int) - phantom.rgb).mean() < 5
    expected = cv2.resize(phantom.rgb, (480, 350), interpolation=cv2.INTER_AREA)
    assert np.abs(coarse.astype(int) - expected).mean() < 5
    read = read_regions(tmp_path / "slide.geojson")
    assert [region.name for region in read] == [region.name for region in phantom.regions]
    np.testing.assert_array_equal(read[0].polygon, phantom.regions[0].polygon)
    first = path.read_bytes()
    write_phantom(path, phantom)
    assert path.read_bytes() == first


def test_cohort_is_a_study_with_a_fixed_split(tmp_path: Path):
    told: list[str] = []
    table = write_cohort(tmp_path / "cohort", n_train=8, n_test=4, seed=1, progress=told.append)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ids = [f"case-{i:02d}" for i in range(1, 13)]
    assert [row["slide_id"] for row in rows] == [row["case_id"] for row in rows] == told == ids
    assert list(rows[0]) == ["slide_id", "case_id", "label", "path", "mpp"]
    with (tmp_path / "cohort" / "splits_0.csv").open(newline="") as file:
        splits = list(csv.DictReader(file))
    assert list(splits[0]) == ["", "train", "val", "test"]
    parts = {part: [row[part] for row in splits if row[part]] for part in ("train", "val", "test")}
    assert parts == {"train": ids[:8], "val": [], "test": ids[8:]}
    for part, n_of_a_kind in (("train", 2), ("test", 1)):
        chosen = [row for row in rows if row["slide_id"] in parts[part]]
        kinds = [(row["label"], *sorted(truth(table.parent / row["path"]))) for row in chosen]
        assert kinds.count(("positive", "lesion")) == n_of_a_kind
        assert kinds.count(("positive", "lesion", "look-alike")) == n_of_a_kind
        assert kinds.count(("negative",)) == n_of_a_kind
        assert kinds.count(("negative", "look-alike")) == n_of_a_kind


def test_share_of_look_alikes_changes_only_the_negative_training_slides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[tuple[int, bool, bool]] = []
    monkeypatch.setattr(
        "hardmil.phantom.cohort.draw_foci",
        lambda seed, *, wanted, **size: drawn.append((seed, wanted["lesion"], wanted["look-alike"])),
    )
    monkeypatch.setattr("hardmil.phantom.cohort.write_phantom", lambda path, phantom: None)
    for share in (0.5, 0.1):
        write_cohort(tmp_path / str(share), n_train=40, n_test=20, seed=3, train_look_alikes=share)
    usual, fewer = drawn[:60], drawn[60:]
    changed = [(one, other) for one, other in zip(usual, fewer, strict=True) if one != other]
    assert len(changed) == 8, "ten of the twenty negative training slides become two"
    assert all(one == (other[0], False, True) for one, other in changed)
    assert fewer[40:] == usual[40:]


def truth(slide_path: Path) -> set[str]:
    with open_slide(slide_path) as slide:
        assert (slide.width_px, slide.height_px) == (1200, 900)
    return {region.name for region in read_regions(slide_path.with_suffix(".geojson"))}


def test_order_of_a_cohort_does_not_depend_on_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without drawing the slides, as only the plan of cases matters."""
    monkeypatch.setattr("hardmil.phantom.cohort.draw_foci", lambda seed, **wanted: None)
    monkeypatch.setattr("hardmil.phantom.cohort.write_phantom", lambda path, phantom: None)
    labels = [label_order(write_cohort(tmp_path / str(seed), seed=seed)) for seed in (0, 1, 0)]
    assert labels[0] != labels[1]
    assert labels[0] == labels[2]
    assert labels[0].count("positive") == 20


def label_order(table: Path) -> list[str]:
    with table.open(newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def test_three_classes_have_look_alikes_of_the_other_lesion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[set[str]] = []
    monkeypatch.setattr(
        "hardmil.phantom.cohort.draw_foci",
        lambda seed, *, wanted, **size: drawn.append({name for name, is_there in wanted.items() if is_there}),
    )
    monkeypatch.setattr("hardmil.phantom.cohort.write_phantom", lambda path, phantom: None)
    labels = label_order(write_cohort(tmp_path, n_train=12, n_test=12, n_classes=3))
    kinds = [(label, *sorted(foci)) for label, foci in zip(labels, drawn, strict=True)]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        ("lesion A", "lesion A"): 4,
        ("lesion A", "lesion A", "look-alike B"): 4,
        ("lesion B", "lesion B"): 4,
        ("lesion B", "lesion B", "look-alike A"): 4,
        ("normal",): 4,
        ("normal", "look-alike A"): 2,
        ("normal", "look-alike B"): 2,
    }
    assert kinds[:12] != kinds[12:]


def test_foci_of_all_kinds_are_in_the_truth():
    drawn = draw_foci(3, wanted=dict.fromkeys(["lesion A", "look-alike A", "lesion B", "look-alike B"], True))
    assert {region.name for region in drawn.regions} == {
        "lesion A",
        "look-alike A",
        "lesion B",
        "look-alike B",
    }

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tests.support.published import labels_of, write_synthetic_colon

from hardmil.config.patches import PatchConfig
from hardmil.errors import TableError
from hardmil.paper.colon import COLON_MPP, NUCLEI, colon_groups, colon_nuclei, colon_truth, nucleus_corners
from hardmil.paper.datasets import published_config, read_published
from hardmil.paper.images import PublishedSet
from hardmil.slides.color import equalise

COLON, UCSB = "CRCHistoPhenotypes_2016_04_28", "ucsb_breast"


def test_truth_of_patches_by_hand():
    nuclei = {
        "epithelial": np.array([[1.0, 1.0], [15.4, 3.0]]),  # 0-based (0, 0) and (14, 2)
        "fibroblast": np.array([[10.0, 10.0], [11.0, 1.0]]),  # (9, 9), the last of its patch, and (10, 0)
        "inflammatory": np.zeros((0, 2)),
        "others": np.array([[21.0, 20.5]]),  # (20, 20): 20.5 is rounded up, to 21
    }
    coords = np.array([[0, 0], [10, 0], [0, 10], [5, 5], [20, 20], [11, 11]])
    # The second holds both kinds and counts as lesion; (9, 9) is in the fourth, (20, 20) in the last two.
    assert colon_truth(coords, nuclei=nuclei, size_px=10).tolist() == [1, 1, 0, 2, 2, 2]


def test_corners_of_nuclei_by_hand():
    # 1-based centres 1, 14 and 27.4 are pixels 0, 13 and 26; 10.5 rounds up to pixel 10.
    centres = np.array([[1, 14], [27.4, 14.49], [10.5, 500]])
    assert nucleus_corners(centres, size_px=27).tolist() == [[-13, 0], [13, 0], [-3, 486]]


@pytest.fixture(scope="module")
def colon(data_dir: Path) -> PublishedSet:
    return read_published(
        "colon", folder=data_dir / COLON, split="group", config=published_config("colon").patches
    )


@pytest.fixture(scope="module")
def nuclei(data_dir: Path) -> PublishedSet:
    config = published_config("colon").patches.model_copy(update={"mode": "nuclei"})
    return read_published("colon", folder=data_dir, split="image", config=config)


def test_colon_in_a_grid(colon: PublishedSet):
    assert labels_of(colon) == (51, 49)
    assert [bag.slide_id for bag in colon.bags] == [f"img{i}" for i in range(1, 101)]
    sizes = {bag.slide_id: len(bag) for bag in colon.bags}
    assert sum(sizes.values()) / 100 == pytest.approx(231.57)
    assert sizes.pop("img76") == 18 * 18
    assert sum(sizes.values()) / 100 == pytest.approx(228.33)
    (note,) = colon.notes
    assert note.startswith("img76: no patch")
    assert "324" in note
    assert (colon.classes, colon.mpp) == (("normal", "epithelial"), COLON_MPP)
    for bag in colon.bags:
        assert bag.instances.shape[1:] == (27, 27, 3)
        assert np.all(bag.coords % 27 == 0)
        assert bag.coords.max() <= 17 * 27
        assert len(np.unique(bag.coords, axis=0)) == len(bag)


def test_colon_truth_agrees_with_the_labels(colon: PublishedSet):
    for bag in colon.bags:
        codes = colon.truth[bag.slide_id]
        assert codes.shape == (len(bag),)
        # An epithelial nucleus may be on a patch that was dropped, never on one of a negative image.
        assert bag.label == 1 or not np.any(codes == 1)
    share = np.mean([np.mean(colon.truth[b.slide_id] == 1) for b in colon.bags if b.label == 1])
    assert 0.1 < share < 0.6


def test_colon_cases_are_its_41_groups(colon: PublishedSet):
    cases = [bag.case_id for bag in colon.bags]
    assert len(set(cases)) == 41
    both = {case for case in set(cases) if len({bag.label for bag in colon.bags if bag.case_id == case}) == 2}
    images = {bag.slide_id for bag in colon.bags if bag.case_id in both}
    assert images == {"img36", "img37", "img38", "img39"}


def test_the_tissue_filter_keeps_nearly_all_epithelial_nuclei(colon: PublishedSet):
    n_all = n_kept = 0
    for bag in colon.bags:
        kept = {(x, y) for x, y in bag.coords.tolist()}
        for x, y in (np.floor(colon_nuclei(colon.paths[bag.slide_id], kind="epithelial") + 0.5) - 1).tolist():
            if max(x, y) < 18 * 27:
                n_all += 1
                n_kept += (x // 27 * 27, y // 27 * 27) in kept
    assert n_all > 7000
    assert n_kept / n_all == pytest.approx(0.993, abs=0.001)


def test_patches_are_the_images_pixels(colon: PublishedSet):
    for bag in (colon.bags[0], colon.bags[75]):
        image = np.asarray(Image.open(colon.paths[bag.slide_id]).convert("RGB"))
        for j in (0, len(bag) // 2, len(bag) - 1):
            x, y = bag.coords[j]
            cut = image[y : y + 27, x : x + 27]
            np.testing.assert_array_equal(bag.instances[j], cut)


def test_patches_are_equalised_as_the_settings_say(colon: PublishedSet, data_dir: Path):
    config = published_config("colon").patches.model_copy(update={"equalise": "channel"})
    equal = read_published("colon", folder=data_dir / COLON, split="group", config=config)
    for bag, other in zip(colon.bags[::30], equal.bags[::30], strict=True):
        np.testing.assert_array_equal(other.instances, equalise(bag.instances, mode="channel"))


def test_colon_around_its_nuclei(nuclei: PublishedSet):
    assert labels_of(nuclei) == (51, 49)
    sizes = [len(bag) for bag in nuclei.bags]
    assert (sum(sizes), min(sizes), max(sizes)) == (22_444, 1, 796)
    assert len({bag.case_id for bag in nuclei.bags}) == 100
    assert nuclei.notes == ()
    kinds = {kind: [len(colon_nuclei(path, kind=kind)) for path in nuclei.paths.values()] for kind in NUCLEI}
    assert [sum(counts) for counts in kinds.values()] == [7722, 5712, 6971, 2039]
    for bag, n_epithelial in zip(nuclei.bags, kinds["epithelial"], strict=True):
        assert bag.label == int(n_epithelial > 0)


def test_a_nucleus_is_in_the_middle_of_its_patch(nuclei: PublishedSet):
    bag = nuclei.bags[0]
    image = np.asarray(Image.open(nuclei.paths["img1"]).convert("RGB"))
    centres = np.concatenate([colon_nuclei(nuclei.paths["img1"], kind=kind) for kind in NUCLEI])
    n_inside = 0
    for j, (x, y) in enumerate(np.floor(centres + 0.5).astype(int) - 1):
        if 13 <= x < 500 - 13 and 13 <= y < 500 - 13:
            n_inside += 1
            cut = image[y - 13 : y + 14, x - 13 : x + 14]
            np.testing.assert_array_equal(bag.instances[j], cut)
    assert n_inside == 19


CONFIG = PatchConfig(um_per_px=None, size_px=27)


def test_groups_that_are_missing_or_do_not_fit(tmp_path: Path):
    write_synthetic_colon(tmp_path)
    path = tmp_path / "abutting_groups.csv"

    def read() -> list[str]:
        found = read_published("colon", folder=tmp_path, split="group", config=CONFIG)
        return [bag.case_id for bag in found.bags]

    with pytest.raises(TableError, match=r"abutting_groups\.csv: no such table.* --split image"):
        read()
    path.write_text("img,group_0.45_plus_by_eye\n1,7\n2,7\n")
    assert read() == ["group-7", "group-7"]
    path.write_text("img,group_0.45_plus_by_eye\n1,7\n")
    with pytest.raises(TableError, match=r"abutting_groups\.csv: no group .*img2"):
        read()
    for text in ("img,group\n1,7\n", "img,group_0.45_plus_by_eye\n1,x\n", "img,group_0.45_plus_by_eye\n1\n"):
        path.write_text(text)
        with pytest.raises(TableError, match=r"abutting_groups\.csv.*group_0\.45_plus_by_eye"):
            colon_groups(tmp_path, images=[1])


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "header", "garbage", "other"])
def test_nuclei_that_cannot_be_read(damage: str, tmp_path: Path):
    image = write_synthetic_colon(tmp_path, n=1) / "Classification" / "img1" / "img1.bmp"
    path = image.with_name("img1_epithelial.mat")
    whole = path.read_bytes()
    contents = {"empty": b"", "short": whole[:100], "header": whole[:140], "garbage": b"garbage" * 100}
    path.unlink()
    if damage == "other":
        savemat(path, {"something": np.zeros(3)})
    elif damage != "missing":
        path.write_bytes(contents[damage])
    with pytest.raises(TableError, match=r"img1_epithelial\.mat: .*; expected a \.mat file with `detection`"):
        colon_nuclei(image, kind="epithelial")

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError, TableError
from hardmil.paper.colon import COLON_MPP, NUCLEI, colon_groups, colon_nuclei, colon_truth, nucleus_corners
from hardmil.paper.datasets import published_config, read_published
from hardmil.paper.images import PublishedSet
from hardmil.paper.tables import PAPER, PAPER_ARMS, Published
from hardmil.slides.color import equalise

COLON, UCSB = "CRCHistoPhenotypes_2016_04_28", "ucsb_breast"


def test_settings_are_the_papers():
    colon, ucsb = published_config("colon"), published_config("ucsb")
    assert (colon.training.epochs, colon.training.lr, colon.training.weight_decay) == (120, 5e-5, 5e-4)
    assert (ucsb.training.epochs, ucsb.training.lr, ucsb.training.weight_decay) == (300, 5e-6, 1e-4)
    assert (colon.patches.size_px, ucsb.patches.size_px) == (27, 32)
    for config in (colon, ucsb):
        assert (config.patches.mode, config.patches.um_per_px) == ("grid", None)
        assert (config.patches.tissue_rule, config.patches.min_tissue) == ("s-or-v", 0.25)
        assert (config.pooling.lam, config.training.bags_per_step) == (2, 1)


@pytest.mark.parametrize(
    ("name", "arm", "metric", "mean", "se"),
    [
        ("colon", "abmil", "precision", 0.953, 0.014),
        ("colon", "ours", "accuracy", 0.906, 0.007),
        ("colon", "ours", "fpr", 0.104, 0.012),
        ("colon", "ours+sb", "auc", 0.979, 0.004),
        ("colon", "ours+mb", "recall", 0.928, 0.017),
        ("colon", "ours+fmb", "f_score", 0.945, 0.004),
        ("colon", "ours+fmb", "fpr", 0.036, 0.007),
        ("ucsb", "gated", "auc", 0.799, 0.020),
        ("ucsb", "ours", "recall", 0.800, 0.038),
        ("ucsb", "ours+sb", "accuracy", 0.893, 0.001),
        ("ucsb", "ours+mb", "fpr", 0.100, 0.016),
        ("ucsb", "ours+fmb", "auc", 0.999, 0.001),
        ("ucsb", "ours+fmb", "fpr", 0.040, 0.019),
    ],
)
def test_numbers_are_the_papers(name: str, arm: str, metric: str, mean: float, se: float):
    assert PAPER[name][arm][metric] == Published(mean, se)


def test_cells_the_paper_leaves_empty():
    assert set(PAPER["colon"]) | set(PAPER["ucsb"]) == set(PAPER_ARMS)
    assert "fpr" not in PAPER["colon"]["abmil"]
    assert "fpr" not in PAPER["ucsb"]["gated"]
    assert sum(len(row) for arms in PAPER.values() for row in arms.values()) == 2 * (5 + 4 * 6)


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


def test_settings_for_an_encoder_are_cuts_of_its_own_and_the_defaults_of_features():
    colon = published_config("colon", encode="efficientnet-lite0")
    assert (colon.encode, colon.encode_px) == ("efficientnet-lite0", 112)
    assert (colon.patches.size_px, colon.patches.overlap_px, colon.patches.equalise) == (64, 16, "none")
    ucsb = published_config("ucsb", encode="efficientnet-lite0")
    assert (ucsb.patches.size_px, ucsb.encode_px, ucsb.training.epochs) == (112, 224, None)


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


@pytest.fixture(scope="module")
def ucsb(data_dir: Path) -> PublishedSet:
    return read_published(
        "ucsb", folder=data_dir / UCSB, split="group", config=published_config("ucsb").patches
    )


def _labels(found: PublishedSet) -> tuple[int, int]:
    positives = sum(bag.label for bag in found.bags)
    return positives, len(found.bags) - positives


def test_colon_in_a_grid(colon: PublishedSet):
    assert _labels(colon) == (51, 49)
    assert [bag.slide_id for bag in colon.bags] == [f"img{i}" for i in range(1, 101)]
    sizes = {bag.slide_id: len(bag) for bag in colon.bags}
    assert sum(sizes.values()) / 100 == pytest.approx(231.57)
    assert sizes.pop("img76") == 18 * 18
    assert sum(sizes.values()) / 100 == pytest.approx(228.33)
    assert colon.notes == ("img76: no patch holds 25% tissue; it keeps all 324",)
    assert (colon.classes, colon.mpp) == (("normal", "epithelial"), COLON_MPP)
    for bag in colon.bags:
        assert bag.instances.shape[1:] == (27, 27, 3)
        assert np.all(bag.coords % 27 == 0)
        assert bag.coords.max() <= 17 * 27
        assert len(np.unique(bag.coords, axis=0)) == len(bag)


def test_colon_truth_says_what_the_label_says(colon: PublishedSet):
    for bag in colon.bags:
        codes = colon.truth[bag.slide_id]
        assert codes.shape == (len(bag),)
        # An epithelial nucleus may lie on a patch that was dropped, never on one of a negative image.
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


def test_patches_are_the_images_pixels_equalised(colon: PublishedSet):
    for bag in (colon.bags[0], colon.bags[75]):
        image = np.asarray(Image.open(colon.paths[bag.slide_id]).convert("RGB"))
        for j in (0, len(bag) // 2, len(bag) - 1):
            x, y = bag.coords[j]
            cut = image[y : y + 27, x : x + 27]
            np.testing.assert_array_equal(bag.instances[j], equalise(cut[None].copy(), mode="channel")[0])


def test_colon_around_its_nuclei(nuclei: PublishedSet):
    assert _labels(nuclei) == (51, 49)
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
            np.testing.assert_array_equal(bag.instances[j], equalise(cut[None].copy(), mode="channel")[0])
    assert n_inside == 19


def test_ucsb(ucsb: PublishedSet):
    assert _labels(ucsb) == (26, 32)
    assert (ucsb.classes, ucsb.mpp, ucsb.notes) == (("benign", "malignant"), None, ())
    assert all(bag.label == int("malignant" in bag.slide_id) for bag in ucsb.bags)
    sizes = [len(bag) for bag in ucsb.bags]
    assert max(sizes) <= 28 * 24
    assert np.mean(sizes) == pytest.approx(424.76, abs=0.01)
    stems = {bag.case_id for bag in ucsb.bags}
    assert len(stems) == 10
    assert "ytma55_030603" in stems


def test_ucsb_without_a_tissue_filter_has_672_patches_and_each_image_is_a_case(
    data_dir: Path, tmp_path: Path
):
    for name in ("ytma10_010704_benign1_ccd.tif", "ytma10_010704_malignant1_ccd.tif"):
        (tmp_path / name).symlink_to(data_dir / UCSB / name)
    config = PatchConfig(um_per_px=None, size_px=32, min_tissue=0.0)
    found = read_published("ucsb", folder=tmp_path, split="image", config=config)
    assert [len(bag) for bag in found.bags] == [672, 672]
    assert [bag.case_id for bag in found.bags] == [bag.slide_id for bag in found.bags]


def test_ucsb_has_no_nuclei(tmp_path: Path):
    with pytest.raises(ConfigError, match="ucsb: no annotated nuclei, expected patches grid"):
        read_published("ucsb", folder=tmp_path, split="image", config=PatchConfig(mode="nuclei"))


CONFIG = PatchConfig(um_per_px=None, size_px=27)


def _made_up(root: Path, *, n: int = 2) -> Path:
    """The layout of the colon set, with n images of noise and one epithelial nucleus in the first."""
    rng = np.random.default_rng(0)
    for i in range(1, n + 1):
        folder = root / "Classification" / f"img{i}"
        folder.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(folder / f"img{i}.bmp")
        for kind in NUCLEI:
            centres = [[30.0, 20.0]] if kind == "fibroblast" or (i == 1 and kind == "epithelial") else []
            savemat(folder / f"img{i}_{kind}.mat", {"detection": np.array(centres).reshape(-1, 2)})
    return root


def test_the_set_may_lie_one_folder_down(tmp_path: Path):
    _made_up(tmp_path / "somewhere")
    found = read_published("colon", folder=tmp_path, split="image", config=CONFIG)
    assert [(bag.slide_id, bag.case_id, bag.label) for bag in found.bags] == [
        ("img1", "img1", 1),
        ("img2", "img2", 0),
    ]


def test_folders_without_the_set(tmp_path: Path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    for name, what in (("colon", "the colon set"), ("ucsb", "the UCSB breast set")):
        with pytest.raises(TableError, match=rf"none: no such folder; expected {what}.*--data"):
            read_published(name, folder=tmp_path / "none", split="image", config=CONFIG)
        with pytest.raises(
            TableError, match=rf"empty: no .* in it; expected {what}.* in its original layout"
        ):
            read_published(name, folder=tmp_path / "empty", split="image", config=CONFIG)
    (tmp_path / "empty" / "Classification").mkdir()
    with pytest.raises(TableError, match=r"no Classification/imgN/imgN\.bmp; expected the colon set"):
        read_published("colon", folder=tmp_path / "empty", split="image", config=CONFIG)


def test_groups_that_are_missing_or_do_not_fit(tmp_path: Path):
    _made_up(tmp_path)
    path = tmp_path / "abutting_groups.csv"

    def read() -> list[str]:
        found = read_published("colon", folder=tmp_path, split="group", config=CONFIG)
        return [bag.case_id for bag in found.bags]

    with pytest.raises(TableError, match=r"abutting_groups\.csv: no such table, .* or use --split image"):
        read()
    path.write_text("img,group_0.45_plus_by_eye\n1,7\n2,7\n")
    assert read() == ["group-7", "group-7"]
    path.write_text("img,group_0.45_plus_by_eye\n1,7\n")
    with pytest.raises(
        TableError, match=r"abutting_groups\.csv: no group of img2, expected one of each image"
    ):
        read()
    for text in ("img,group\n1,7\n", "img,group_0.45_plus_by_eye\n1,x\n", "img,group_0.45_plus_by_eye\n1\n"):
        path.write_text(text)
        with pytest.raises(TableError, match=r"expected numbers in columns img and group_0\.45_plus_by_eye"):
            colon_groups(tmp_path, images=[1])


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "header", "garbage", "other"])
def test_nuclei_that_cannot_be_read(damage: str, tmp_path: Path):
    image = _made_up(tmp_path, n=1) / "Classification" / "img1" / "img1.bmp"
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


def test_ucsb_names_without_a_label(data_dir: Path, tmp_path: Path):
    shutil.copy(data_dir / UCSB / "ytma10_010704_benign1_ccd.tif", tmp_path / "ytma10_010704_other1_ccd.tif")
    with pytest.raises(TableError, match=r"other1_ccd\.tif: name without benign or malignant"):
        read_published("ucsb", folder=tmp_path, split="image", config=PatchConfig(um_per_px=None))

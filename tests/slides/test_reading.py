from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.slides import picture_slide

from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError, SlideError
from hardmil.geometry import Downsample
from hardmil.paper.datasets import published_config
from hardmil.slides import reading as reading
from hardmil.slides.color import equalise
from hardmil.slides.grid import PatchGrid, check_places, place_patches
from hardmil.slides.level_source import Level
from hardmil.slides.picture_source import PictureSource
from hardmil.slides.pictures import Picture
from hardmil.slides.reader import open_slide
from hardmil.slides.reading import crop_patches, read_blocks, read_patches
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import segment_tissue

PINK = (220, 140, 185)


def picture(width_px: int, height_px: int, *, tissue: np.ndarray | None = None) -> Slide:
    """A slide in memory: pink where there is tissue, white elsewhere."""
    rgb = np.full((height_px, width_px, 3), 255, np.uint8)
    rgb[slice(None) if tissue is None else tissue] = PINK
    return picture_slide(rgb)


def shares_by_hand(is_tissue: np.ndarray, *, size: int) -> dict[tuple[int, int], float]:
    """Share of tissue in each cell of the grid, row by row, counted pixel by pixel."""
    height, width = is_tissue.shape
    return {
        (x, y): is_tissue[y : y + size, x : x + size].sum() / size**2
        for y in range(0, height - size + 1, size)
        for x in range(0, width - size + 1, size)
    }


@given(
    width=st.integers(8, 90),
    height=st.integers(8, 70),
    size=st.integers(8, 30),
    min_tissue=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_grid_keeps_the_cells_with_enough_tissue(width, height, size, min_tissue, seed):
    rng = np.random.default_rng(seed)
    tissue = cv2.resize(rng.integers(0, 2, (5, 7), np.uint8), (width, height)) > 0
    slide = picture(width, height, tissue=tissue)
    grid = place_patches(slide, PatchConfig(size_px=size, um_per_px=None, min_tissue=min_tissue))
    shares = shares_by_hand(segment_tissue(slide).is_tissue, size=size)
    expected = {corner: share for corner, share in shares.items() if share >= min_tissue}
    assert [tuple(corner) for corner in grid.coords.tolist()] == list(expected)
    np.testing.assert_allclose(grid.tissue_share, list(expected.values()), atol=1e-9)
    assert (grid.size_px, grid.size_level0_px, len(grid)) == (size, size, len(expected))


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 200),
    size=st.integers(8, 60),
    mpp=st.sampled_from([0.25, 0.3, 0.5, 1.0]),
    um_per_px=st.sampled_from([0.5, 1.0]),
)
def test_patches_are_inside_do_not_overlap_and_cover_the_slide(width, height, size, mpp, um_per_px):
    config = PatchConfig(size_px=size, um_per_px=um_per_px, min_tissue=0, max_enlargement=2)
    grid = place_patches(picture(width, height), config, mpp=mpp)
    edge = grid.size_level0_px
    assert abs(edge * mpp - size * um_per_px) <= mpp / 2 + 1e-9
    covered = np.zeros((height, width), np.int64)
    for x, y in grid.coords.tolist():
        assert 0 <= x <= width - edge
        assert 0 <= y <= height - edge
        covered[y : y + edge, x : x + edge] += 1
    assert (covered[: height - height % edge, : width - width % edge] == 1).all()
    assert covered.sum() == len(grid) * edge**2


@given(
    width=st.integers(8, 120),
    height=st.integers(8, 90),
    size=st.integers(8, 24),
    share=st.floats(0, 0.9),
)
def test_overlapping_patches_have_a_fixed_step_and_are_inside(width, height, size, share):
    overlap = int(share * size)
    config = PatchConfig(size_px=size, overlap_px=overlap, um_per_px=None, min_tissue=0)
    grid = place_patches(picture(width, height), config)
    step = size - overlap
    expected = [(x, y) for y in range(0, height - size + 1, step) for x in range(0, width - size + 1, step)]
    assert [tuple(corner) for corner in grid.coords.tolist()] == expected


def test_overlapping_patches_have_their_own_tissue_share():
    tissue = np.zeros((20, 40), bool)
    tissue[:, 20:] = True
    config = PatchConfig(size_px=20, overlap_px=10, um_per_px=None, min_tissue=0.5)
    grid = place_patches(picture(40, 20, tissue=tissue), config)
    assert grid.coords.tolist() == [[10, 0], [20, 0]]
    np.testing.assert_allclose(grid.tissue_share, [0.5, 1.0])


def test_an_overlap_as_large_as_the_patch_is_refused():
    with pytest.raises(ValueError, match="an overlap of 32 px is not smaller than a patch of 32 px"):
        PatchConfig(overlap_px=32)


def test_tissue_share_is_exact_between_pixels_of_the_mask(monkeypatch: pytest.MonkeyPatch):
    """Patches of 27 px on a mask with 8 level-0 px per pixel: patch borders are inside pixels of the mask."""
    monkeypatch.setattr("hardmil.slides.tissue.MAX_EDGE_PX", 50)
    tissue = np.zeros((240, 400), bool)
    tissue[80:160, 120:304] = True
    slide = picture(400, 240, tissue=tissue)
    assert segment_tissue(slide).downsample == (8, 8)
    grid = place_patches(slide, PatchConfig(size_px=27, um_per_px=None, min_tissue=0))
    expected = shares_by_hand(tissue, size=27)
    np.testing.assert_allclose(grid.tissue_share, list(expected.values()), atol=1e-6)


def test_mpp_of_the_table_overrides_that_of_the_file(phantom_slide: Path):
    with open_slide(phantom_slide) as slide:
        assert place_patches(slide, PatchConfig(um_per_px=1.0)).size_level0_px == 64
        assert place_patches(slide, PatchConfig(um_per_px=1.0), mpp=0.25).size_level0_px == 128
        assert place_patches(slide, PatchConfig(um_per_px=None), mpp=0.25).size_level0_px == 32


def test_slide_without_resolution_is_refused_with_both_remedies():
    with pytest.raises(
        SlideError,
        match=r"slide\.png: .*mpp column in slides\.csv, .*patches\.um_per_px: null",
    ):
        place_patches(picture(90, 70), PatchConfig(um_per_px=0.5))


def test_too_many_places_are_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch):
    """At 0.5 um/px a patch of 32 px has 16 um: 32 level-0 px at the right mpp, and 3 at 5 um/px."""
    monkeypatch.setattr("hardmil.slides.grid.MAX_PLACES", 100)
    monkeypatch.setattr("hardmil.slides.grid.segment_tissue", None)
    slide, config = picture(90, 70), PatchConfig(um_per_px=0.5, max_enlargement=10)
    for place in (check_places, place_patches):
        with pytest.raises(
            SlideError, match=r"slide\.png: 690 places for patches of 3 level-0 px on 90 x 70"
        ):
            place(slide, config, mpp=5.0)
    check_places(slide, config, mpp=0.5)


def test_nuclei_are_not_placed_on_a_slide():
    with pytest.raises(ConfigError, match=r"slide\.png: patches\.mode is nuclei; expected grid"):
        place_patches(picture(90, 70), PatchConfig(mode="nuclei", um_per_px=None))


def test_blank_slide_and_slide_smaller_than_a_patch_give_an_empty_grid():
    blank = picture(90, 70, tissue=np.zeros((70, 90), bool))
    for slide in (blank, picture(20, 90)):
        grid = place_patches(slide, PatchConfig(um_per_px=None))
        assert len(grid) == 0
        assert grid.coords.dtype == np.int64
        assert read_patches(slide, grid).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("column_px", "band_px", "block_bytes"), [(1, 1, 1), (300, 8192, 9000), (8192, 300, 1 << 25)]
)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("um_per_px", "level"), [(0.5, 0), (1.0, 1)])
def test_patches_equal_one_read_each(
    phantom_slide: Path,
    monkeypatch: pytest.MonkeyPatch,
    um_per_px: float,
    level: int,
    threads: int,
    column_px: int,
    band_px: int,
    block_bytes: int,
):
    monkeypatch.setattr(reading, "COLUMN_PX", column_px)
    monkeypatch.setattr(reading, "BAND_PX", band_px)
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    with open_slide(phantom_slide) as slide:
        grid = place_patches(slide, PatchConfig(um_per_px=um_per_px))
        one_by_one = [slide.read(x, y, 32, 32, level) for x, y in grid.coords.tolist()]
        np.testing.assert_array_equal(read_patches(slide, grid, threads=threads), one_by_one)
    assert len(grid) > 50


def test_patches_between_levels_are_averaged_by_area(phantom_slide: Path):
    """A pixel covers 8 level-0 px, and one of the coarsest level 2, so 4 x 4 of these are averaged."""
    with open_slide(phantom_slide) as slide:
        grid = place_patches(slide, PatchConfig(size_px=16, um_per_px=4.0))
        found = read_patches(slide, grid)
        for patch, (x, y) in zip(found, grid.coords.tolist(), strict=True):
            fine = slide.read(x, y, 64, 64, 1).reshape(16, 4, 16, 4, 3)
            assert np.abs(patch - fine.mean(axis=(1, 3))).max() <= 0.5
    assert len(grid) > 10


def test_patches_are_enlarged_only_a_little_unless_set():
    """A macro picture of 5 um/px has 3 px in a patch of 32 px at 0.5 um/px."""
    slide = picture_slide(np.full((300, 400, 3), PINK, np.uint8), mpp=5.0)
    with pytest.raises(
        SlideError, match=r"has 5 um/px \(400 x 300 px\).*enlarged 10 times; expected at most 1\.5; .*: 10$"
    ):
        place_patches(slide, PatchConfig())
    assert place_patches(slide, PatchConfig(max_enlargement=10)).size_level0_px == 3
    assert place_patches(picture_slide(slide.thumbnail(400), mpp=0.75), PatchConfig()).size_level0_px == 21


def test_order_of_coords_is_the_order_of_patches(phantom_slide: Path):
    with open_slide(phantom_slide) as slide:
        grid = place_patches(slide, PatchConfig(um_per_px=1.0))
        order = np.random.default_rng(0).permutation(len(grid))
        shuffled = PatchGrid(grid.coords[order], 32, 64, grid.tissue_share[order])
        np.testing.assert_array_equal(read_patches(slide, shuffled), read_patches(slide, grid)[order])


class CountingSource(PictureSource):
    """A pink picture of 1,000 x 600 px in tiles of 64 x 128 px; counts how often each pixel is read."""

    def __init__(self) -> None:
        super().__init__(Picture(np.full((600, 1000, 3), PINK, np.uint8)))
        self.levels = (Level(1000, 600, Downsample(1.0, 1.0), (64, 128)),)
        self.times = np.zeros((600, 1000), np.int64)

    def read_level(self, level: int, *, x: int, y: int, width: int, height: int) -> np.ndarray:
        self.times[y : y + height, x : x + width] += 1
        return super().read_level(level, x=x, y=y, width=width, height=height)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    corners=st.lists(st.tuples(st.integers(0, 960), st.integers(0, 560)), min_size=1, max_size=30),
    band_px=st.sampled_from([1, 300, 1024]),
)
def test_tiles_with_patches_are_read_once_and_no_others(monkeypatch, corners, band_px):
    """Whole tiles of 128 px are read, however much the patches overlap."""
    monkeypatch.setattr(reading, "BAND_PX", band_px)
    source = CountingSource()
    grid = PatchGrid(np.array(corners), 40, 40, np.ones(len(corners)))
    with Slide(Path("picture.png"), source) as slide:
        assert (read_patches(slide, grid) == PINK).all()
    touched = np.zeros((600, 1000), np.int64)
    for x, y in corners:
        touched[y // 128 * 128 : -(-(y + 40) // 128) * 128, x // 128 * 128 : -(-(x + 40) // 128) * 128] = 1
    np.testing.assert_array_equal(source.times, touched)


def test_memory_does_not_grow_with_the_slide(monkeypatch: pytest.MonkeyPatch):
    """The window on a slide eight times as wide and high has the same size."""
    windows: list[int] = []
    made = np.empty

    def watched(shape, dtype=np.float64, **rest):
        windows.append(int(np.prod(shape)))
        return made(shape, dtype, **rest)

    monkeypatch.setattr(reading, "COLUMN_PX", 1024)
    largest = []
    for times in (1, 8):
        slide = picture(2200 * times, 1500 * times)
        grid = place_patches(slide, PatchConfig(um_per_px=None, min_tissue=0))
        with monkeypatch.context() as patch:
            patch.setattr("hardmil.slides.windows.np.empty", watched)
            blocks = [len(members) for members, _ in read_blocks(slide, grid)]
        assert sum(blocks) == len(grid)
        largest.append(max(windows))
        windows.clear()
    assert largest[0] == largest[1]


@given(
    data=st.data(),
    width=st.integers(1, 20),
    height=st.integers(1, 15),
    size=st.integers(1, 12),
)
def test_crop_patches_mirrors_at_the_border(data, width: int, height: int, size: int):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    corner = st.tuples(st.integers(-30, 30), st.integers(-30, 30))
    coords = np.array(data.draw(st.lists(corner, min_size=1, max_size=4)))
    padded = np.pad(rgb, ((80, 80), (80, 80), (0, 0)), mode="reflect")
    expected = [padded[y + 80 : y + 80 + size, x + 80 : x + 80 + size] for x, y in coords]
    np.testing.assert_array_equal(crop_patches(rgb, coords, size_px=size), expected)


def test_colon_has_228_patches_a_bag_and_one_empty_bag(data_dir: Path):
    """The paper's rule, behind the recorded rows and the docs."""
    colon = data_dir / "CRCHistoPhenotypes_2016_04_28" / "Classification"
    config = published_config("colon").patches
    n_patches: dict[str, int] = {}
    for image in sorted(colon.glob("img*/img*.bmp")):
        with open_slide(image) as slide:
            n_patches[image.stem] = len(place_patches(slide, config))
            everything = place_patches(slide, config.model_copy(update={"min_tissue": 0.0}))
            assert len(everything) == 18 * 18
    assert len(n_patches) == 100
    assert np.mean(list(n_patches.values())) == pytest.approx(228, abs=1)
    assert [name for name, n in n_patches.items() if n == 0] == ["img76"]


def test_aperio_slide_has_stained_patches(data_dir: Path):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        grid = place_patches(slide, PatchConfig(size_px=64, um_per_px=1.0))
        found = equalise(read_patches(slide, grid), mode="none")
    assert grid.size_level0_px == 128
    assert 100 < len(grid) < 17 * 23
    assert found[..., 1].mean() < found[..., 0].mean() - 20


def test_ucsb_images_are_read(data_dir: Path, tmp_path: Path):
    image = data_dir / "ucsb_breast" / "ytma10_010704_malignant1_ccd.tif"
    with open_slide(image) as slide:
        assert (slide.width_px, slide.height_px, slide.mpp) == (896, 768, None)
        grid = place_patches(slide, PatchConfig(um_per_px=None))
        found = read_patches(slide, grid)
    whole = np.asarray(Image.open(image))
    np.testing.assert_array_equal(found, crop_patches(whole, grid.coords, size_px=32))

"""Embeddings of many slides: full batches, a file a slide, a bad slide set aside."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import read_bag
from hardmil.bags.slide_table import SlideRow
from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.config.study import InstanceConfig
from hardmil.errors import BagError, EmptyBagError, StoreError
from hardmil.jobs.run import JobResults
from hardmil.phantom.slide import draw_phantom, write_phantom
from hardmil.preprocessing.encoding import Files, encode_slides
from hardmil.preprocessing.instances import encode_slide, read_instances, write_instances
from hardmil.slides import reading as patches_module

ALL = TissueConfig(min_area_um2=0, max_hole_um2=0)
CONFIG = InstanceConfig(patches=PatchConfig(size_px=32, equalise="none", tissue=ALL), encode="own:means")


@dataclass
class Means:
    """The mean colour of a patch, and its corners; remembers how many patches came at once."""

    name: str = "means-1"
    batch_size: int = 64
    input_px: int | None = None
    trained_px: int | None = None
    um_per_px: float | None = None
    batches: list[int] = field(default_factory=list)
    spoil: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda patches, vectors: vectors

    def embed(self, patches: np.ndarray) -> np.ndarray:
        self.batches.append(len(patches))
        flat = patches.reshape(len(patches), -1, 3)
        return self.spoil(patches, np.concatenate([flat.mean(axis=1), flat[:, 0], flat[:, -1]], axis=1))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[SlideRow]:
    """Five slides of 20 to 150 patches, none square."""
    folder = tmp_path_factory.mktemp("slides")
    found = []
    for i, (width, height) in enumerate([(420, 300), (300, 200), (640, 448), (260, 200), (520, 300)]):
        path = folder / f"s{i}.tif"
        write_phantom(path, draw_phantom(i, lesion=True, look_alikes=False, width_px=width, height_px=height))
        found.append(SlideRow(f"s{i}", f"c{i}", None, path, None))
    return found


def encode(
    rows: list[SlideRow], folder: Path, encoder: Means, config: InstanceConfig = CONFIG
) -> JobResults[int | None]:
    def files(row: SlideRow) -> Files:
        return Files(folder / "patches" / f"{row.slide_id}.h5", folder / "features" / f"{row.slide_id}.h5")

    return encode_slides(rows, config=config, encoder=encoder, files=files, quiet=True)


def bag(row: SlideRow, folder: Path) -> Bag:
    return read_instances(row, config=CONFIG, path=folder / "features" / f"{row.slide_id}.h5", label=1)


def test_each_slide_holds_the_embeddings_of_its_own_patches_in_full_batches(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hardmil.slides.reading.BLOCK_BYTES", 9 * 3 * 32 * 32)
    encoder = Means()
    done = encode(rows, tmp_path, encoder)
    assert done.failures == []
    assert list(done.results) == ["s0", "s1", "s2", "s3", "s4"]
    assert set(encoder.batches[:-1]) == {64}, "small slides share a batch"
    assert sum(encoder.batches) == sum(done.results.values())
    for row in rows:
        alone = encode_slide(row, config=CONFIG.patches, label=1, encoder=Means(batch_size=7))
        found = bag(row, tmp_path)
        assert len(found) == done.results[row.slide_id]
        np.testing.assert_array_equal(found.coords, alone.coords)
        np.testing.assert_array_equal(found.instances, alone.instances)


def test_the_file_says_which_encoder_made_it(rows: list[SlideRow], tmp_path: Path):
    encode(rows[:1], tmp_path, Means())
    with h5py.File(tmp_path / "features" / "s0.h5") as file:
        assert file["features"].attrs["encoder"] == "means-1"
        assert file["features"].dtype == np.float16


def test_a_second_run_makes_what_is_missing_alone(rows: list[SlideRow], tmp_path: Path):
    encode(rows[:2], tmp_path, Means())
    again = Means()
    done = encode(rows[:3], tmp_path, again)
    assert list(done.results) == ["s0", "s1", "s2"]
    assert sum(again.batches) == done.results["s2"]
    other = Means(name="means-2")
    encode(rows[:2], tmp_path, other)
    assert sum(other.batches) == done.results["s0"] + done.results["s1"], "other weights, all again"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda patches, vectors: np.where(red(patches), np.nan, vectors),
            "slide s1: encoder means-1 gave NaN, inf",
        ),
        (
            lambda patches, vectors: np.where(red(patches), 1.0, vectors),
            "slide s1: .*gave the same vector for all",
        ),
        (lambda patches, vectors: stop_at(red(patches), vectors), "ArithmeticError: red is too much"),
        (
            lambda patches, vectors: vectors[: len(vectors) - red(patches).any()],
            r"slide s1: .*gave \(\d+, 9\) for",
        ),
    ],
    ids=["nan", "constant", "raises", "too few"],
)
def test_a_slide_that_spoils_a_batch_fails_alone(
    rows: list[SlideRow], tmp_path: Path, spoil: Callable[..., np.ndarray], message: str
):
    reddish = redden(rows[1], tmp_path)
    mixed = [rows[0], reddish, *rows[2:]]
    done = encode(mixed, tmp_path, Means(spoil=spoil))
    assert [failure.name for failure in done.failures] == ["s1"]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(done.failures[0].message)
    assert list(done.results) == ["s0", "s2", "s3", "s4"]
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == [
        "s0.h5",
        "s2.h5",
        "s3.h5",
        "s4.h5",
    ]
    for row in rows[2:]:
        alone = encode_slide(row, config=CONFIG.patches, label=1, encoder=Means())
        np.testing.assert_array_equal(bag(row, tmp_path).instances, alone.instances)


def red(patches: np.ndarray) -> np.ndarray:
    """Which patches hold no blue at all."""
    return (patches[..., 2].max(axis=(1, 2)) == 0)[:, None]


def stop_at(found: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    if found.any():
        raise ArithmeticError("red is too much")
    return vectors


def redden(row: SlideRow, folder: Path) -> SlideRow:
    assert row.path is not None
    path = folder / "red.png"
    rgb = np.array(Image.open(row.path))
    rgb[..., 2] = 0
    Image.fromarray(rgb).save(path)
    return SlideRow(row.slide_id, row.case_id, None, path, 0.5)


def test_a_slide_that_breaks_while_it_is_read_leaves_no_file(rows: list[SlideRow], tmp_path: Path):
    missing = SlideRow("gone", "c", None, tmp_path / "gone.svs", 0.5)
    assert rows[2].path is not None
    half = tmp_path / "half.tif"
    content = rows[2].path.read_bytes()
    half.write_bytes(content[:3000] + bytes(20000) + content[23000:])
    broken = SlideRow("half", "c", None, half, 0.5)
    done = encode([rows[0], missing, broken, rows[1]], tmp_path, Means(batch_size=16))
    assert list(done.results) == ["s0", "s1"]
    assert [failure.name for failure in done.failures] == ["gone", "half"]
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["s0.h5", "s1.h5"]


def test_a_closed_folder_stops_the_run(rows: list[SlideRow], tmp_path: Path):
    (tmp_path / "features").write_text("a file where the folder should be")
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match=r"features/s0\.h5: cannot be written"):
        encode(rows, tmp_path, Means())
    assert set(threading.enumerate()) <= before, "the reader thread ended with it"


def test_pixels_are_written_a_block_at_a_time(
    rows: list[SlideRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = encode_slide(rows[2], config=CONFIG.patches, label=0)
    sizes: list[int] = []
    read = patches_module.read_blocks

    def blocks(*args: Any, **kwargs: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for members, patches in read(*args, **kwargs):
            sizes.append(len(members))
            yield members, patches

    monkeypatch.setattr("hardmil.slides.reading.BLOCK_BYTES", 16 * 3 * 32 * 32)
    monkeypatch.setattr("hardmil.preprocessing.instances.read_blocks", blocks)
    config = InstanceConfig(patches=CONFIG.patches)
    n = write_instances(rows[2], config=config, coords_path=tmp_path / "p.h5", path=tmp_path / "s2.h5")
    assert n == len(whole) == sum(sizes)
    assert max(sizes) <= 16
    found = read_bag(tmp_path / "s2.h5", case_id="c", label=0)
    np.testing.assert_array_equal(found.instances, whole.instances)
    np.testing.assert_array_equal(found.coords, whole.coords)


def test_a_slide_without_tissue_is_named_where_it_is_predicted(tmp_path: Path):
    Image.fromarray(np.full((200, 300, 3), 240, np.uint8)).save(tmp_path / "blank.png")
    row = SlideRow("blank", "c", None, tmp_path / "blank.png", 0.5)
    config = PatchConfig(size_px=32, min_tissue=1.0)
    with pytest.raises(EmptyBagError, match="slide blank: no patch"):
        encode_slide(row, config=config, label=0, encoder=Means())


def test_prediction_names_an_encoder_that_gives_one_vector(rows: list[SlideRow]):
    same = Means(spoil=lambda patches, vectors: np.ones_like(vectors))
    with pytest.raises(BagError, match="slide s0: encoder means-1 gave the same vector for all"):
        encode_slide(rows[0], config=CONFIG.patches, label=0, encoder=same)

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardmil.checks.duplicates import (
    FULL_PX,
    TURNS,
    matching_pairs,
    near_duplicates,
    picture_signature,
    slide_signature,
)
from hardmil.phantom.slide import draw_phantom
from hardmil.slides.reader import open_slide


def tissue(seed: int) -> np.ndarray:
    """A synthetic slide, 900 x 680 px, with glass around the tissue."""
    return draw_phantom(seed, lesion=True, look_alikes=True, width_px=900, height_px=680).rgb


def as_jpeg(rgb: np.ndarray, *, quality: int = 60) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def turned(rgb: np.ndarray, how: str) -> np.ndarray:
    """A picture transformed by Pillow as TURNS names it."""
    image = Image.fromarray(rgb)
    for degrees, operation in (
        (90, Image.Transpose.ROTATE_270),  # Pillow rotates anticlockwise, TURNS are clockwise
        (180, Image.Transpose.ROTATE_180),
        (270, Image.Transpose.ROTATE_90),
    ):
        if f"turned {degrees}" in how:
            image = image.transpose(operation)
    return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if "flipped" in how else image)


@pytest.mark.parametrize("how", TURNS)
def test_a_copy_is_found_in_each_orientation(how: str) -> None:
    originals = [tissue(seed) for seed in range(3)]
    copy = as_jpeg(turned(originals[1], how))
    found = matching_pairs([picture_signature(picture) for picture in (*originals, copy)])
    assert [(pair.first, pair.second, pair.kind, pair.how) for pair in found] == [
        (1, 3, "near-duplicate", how)
    ]
    assert found[0].score > 0.9


def test_the_orientation_is_relative_to_the_first() -> None:
    pictures = (turned(tissue(1), "turned 90°"), tissue(0), tissue(1))
    found = near_duplicates([picture_signature(picture) for picture in pictures])
    assert [(pair.first, pair.second, pair.how) for pair in found] == [(0, 2, "turned 270°")]


def test_a_pair_found_only_from_the_second_is_relative_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardmil.checks.duplicates.N_CANDIDATES", 1)
    original = tissue(1)
    pictures = (original, original, turned(original[20:660], "turned 90°"))
    found = near_duplicates([picture_signature(picture) for picture in pictures])
    assert [pair.how for pair in found] == ["as it is", "turned 90°"]


def test_a_cropped_or_smaller_copy_is_found() -> None:
    original = tissue(4)
    cropped = as_jpeg(original[20:660, 10:880])
    smaller = np.asarray(Image.fromarray(original).resize((430, 320), Image.Resampling.LANCZOS))
    found = near_duplicates(
        [picture_signature(picture) for picture in (original, tissue(5), cropped, smaller)]
    )
    assert {(pair.first, pair.second) for pair in found} == {(0, 2), (0, 3), (2, 3)}


def test_different_pictures_of_one_kind_do_not_match() -> None:
    assert matching_pairs([picture_signature(tissue(seed)) for seed in range(20, 32)]) == []


def test_blank_pictures_match_nothing() -> None:
    rng = np.random.default_rng(0)
    glass = [rng.normal(243, 2, (200, 300, 3)).clip(0, 255).astype(np.uint8) for _ in range(2)]
    white = np.full((200, 300, 3), 255, np.uint8)
    shaded = np.tile(np.linspace(200, 255, 300).astype(np.uint8)[None, :, None], (200, 1, 3))
    pictures = (*glass, glass[0], white, white, shaded, shaded)
    assert matching_pairs([picture_signature(picture) for picture in pictures]) == []


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_pictures_have_no_pairs(n: int) -> None:
    assert matching_pairs([picture_signature(tissue(0))] * n) == []


def test_a_flipped_copy_is_not_also_a_neighbour() -> None:
    inside = np.ascontiguousarray(tissue(6)[230:450, 300:600])
    found = matching_pairs(
        [picture_signature(inside), picture_signature(np.ascontiguousarray(inside[:, ::-1]))]
    )
    assert [(pair.kind, pair.how) for pair in found] == [("near-duplicate", "flipped")]


def test_halves_of_a_large_slide_are_found_on_its_thumbnail(tmp_path: Path) -> None:
    """The slide is so large that the edges are those of a thumbnail."""
    whole = np.asarray(Image.fromarray(tissue(7)[230:450, 250:650]).resize((5200, 2860)))
    for name, part in (("left", whole[:, :2600]), ("right", whole[:, 2600:])):
        Image.fromarray(part).save(tmp_path / f"{name}.png")
    signatures = []
    for name in ("left", "right"):
        with open_slide(tmp_path / f"{name}.png") as slide:
            assert max(slide.width_px, slide.height_px) > FULL_PX
            signatures.append(slide_signature(slide))
    found = matching_pairs(signatures)
    assert [(pair.first, pair.second, pair.how) for pair in found] == [(0, 1, "right of")]


def test_real_pictures(data_dir: Path) -> None:
    """UCSB has no duplicates and no adjacent tiles; only the added copies are found, and all of them."""
    rng = np.random.default_rng(0)
    originals, copies = [], []
    for path in sorted((data_dir / "ucsb_breast").glob("ytma*.tif*"))[::3]:
        with open_slide(path) as slide:
            rgb = slide.thumbnail(FULL_PX)
        top, left = rng.integers(0, 30, 2)
        copies.append(picture_signature(as_jpeg(turned(rgb[top:, left:], TURNS[rng.integers(8)]))))
        originals.append(picture_signature(rgb))
    n = len(originals)
    assert matching_pairs(originals) == []
    found = near_duplicates([*originals, *copies])
    assert sorted((pair.first, pair.second) for pair in found) == [(i, n + i) for i in range(n)]

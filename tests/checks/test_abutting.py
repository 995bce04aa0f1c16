import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr

from hardmil.checks.abutting import MIN_CORRELATION, MIN_Z, Edge, Side, abutting_pairs, picture_edges
from hardmil.phantom.slide import draw_phantom
from hardmil.slides.reader import open_slide


def tissue(seed: int, *, width: int = 480, height: int = 300) -> np.ndarray:
    """A synthetic picture with tissue up to its edges: the middle of a synthetic slide."""
    drawn = draw_phantom(seed, lesion=True, look_alikes=True, width_px=1400, height_px=1100).rgb
    top, left = (1100 - height) // 2, (1400 - width) // 2
    return np.ascontiguousarray(drawn[top : top + height, left : left + width])


def pairs(*pictures: np.ndarray) -> list[tuple[int, int, str]]:
    found = abutting_pairs([picture_edges(picture) for picture in pictures])
    return sorted((pair.first, pair.second, pair.direction) for pair in found)


def test_the_quarters_of_a_picture_are_neighbours() -> None:
    whole, other = tissue(1), tissue(2, width=200, height=160)
    quarters = (whole[:160, 200:400], whole[160:, :200][:140], whole[:160, :200], whole[160:, 200:400])
    expected = [(0, 3, "below"), (1, 3, "right of"), (2, 0, "right of"), (2, 1, "below")]
    assert pairs(*quarters, other) == expected


def test_order_of_pictures_does_not_matter() -> None:
    whole = tissue(3)
    assert pairs(whole[:, :240], tissue(4)[:, :240], whole[:, 240:]) == [(0, 2, "right of")]
    assert pairs(whole[:, 240:], tissue(4)[:, :240], whole[:, :240]) == [(2, 0, "right of")]


def test_blank_edges_match_nothing() -> None:
    rng = np.random.default_rng(0)
    glass = rng.normal(243, 2, (3, 200, 300, 3)).clip(0, 255).astype(np.uint8)
    flat = np.full((200, 300, 3), 255, np.uint8)
    framed = tissue(5, width=300, height=200)
    framed[[0, -1]], framed[:, [0, -1]] = 0, 0
    pictures = (*glass, glass[0], flat, flat, framed, framed)
    assert pairs(*pictures) == []
    assert all(picture_edges(picture) == {} for picture in pictures)


def test_a_side_has_one_neighbour() -> None:
    """If two pictures continue the same side, the sharper one is the neighbour."""
    whole = tissue(9)
    left, right = whole[:, :240], whole[:, 240:]
    noise = np.random.default_rng(0).normal(0, 8, left.shape)
    dull_left, dull_right = ((half + noise).clip(0, 255).astype(np.uint8) for half in (left, right))
    assert pairs(dull_left, right) == pairs(left, dull_right) == [(0, 1, "right of")]
    assert pairs(dull_left, left, right) == [(1, 2, "right of")]
    assert pairs(left, dull_right, right) == [(0, 2, "right of")]


def test_a_picture_is_not_its_own_neighbour() -> None:
    half = tissue(6)[:, :200]
    seamless = np.concatenate([half, half[:, ::-1]], axis=1)
    assert np.array_equal(seamless[:, 0], seamless[:, -1])
    assert pairs(seamless) == []


def test_short_edges_are_left_out() -> None:
    picture = tissue(7, width=300, height=63)
    assert set(picture_edges(picture)) == {"top", "bottom"}


def test_correlation_and_score_equal_plain_loops() -> None:
    """Loops over the stored edges, and over the pixels."""
    whole = tissue(8, width=480, height=300)
    left, right = picture_edges(whole[:, :240]), picture_edges(whole[:, 240:])
    pair = abutting_pairs([left, right])[0]
    a, b = left["right"], right["left"]
    plain = float(pearsonr(a.values.ravel(), b.values.ravel())[0])
    assert pair.correlation == pytest.approx(plain, abs=0.01), "the trend is gone, so the mean is near 0"
    n_alike = 1.0
    for lag in range(1, 151):
        rho_a, rho_b = (
            sum(float(edge.values[i] @ edge.values[i + lag]) for i in range(300 - lag)) for edge in (a, b)
        )
        n_alike += 2 * rho_a * rho_b
    n = 300 * min(a.texture, b.texture) / n_alike
    n *= (a.n_independent_colours * b.n_independent_colours) ** 0.5
    assert pair.z == pytest.approx(np.arctanh(pair.correlation) * (n - 3) ** 0.5, rel=1e-3)


def test_scores_of_edges_that_do_not_touch_are_standard_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    """For noise as smooth as tissue, the best of 80 scores is distributed as the maximum of 80 draws."""
    from scipy.ndimage import gaussian_filter

    monkeypatch.setattr("hardmil.checks.abutting.MIN_Z", -99.0)
    monkeypatch.setattr("hardmil.checks.abutting.MIN_CORRELATION", -1.0)
    rng = np.random.default_rng(0)
    made: list[dict[Side, Edge]] = []
    for _ in range(80):
        noise = gaussian_filter(rng.normal(size=(400, 64, 3)), (3, 0, 0))
        made.append(picture_edges((128 + 30 * noise / noise.std()).clip(0, 255).astype(np.uint8)))
    found = [pair for pair in abutting_pairs(made) if pair.direction == "right of"]
    assert len(found) > 20
    assert 1.9 < np.median([pair.z for pair in found]) < 3.6
    assert max(pair.z for pair in found) < MIN_Z


def test_colon_tiles(data_dir: Path) -> None:
    """At least 55 of the 61 pairs in the table of the set are found, and at most 5 others."""
    folder = data_dir / "CRCHistoPhenotypes_2016_04_28"
    numbers = range(1, 101)
    edges: list[dict[Side, Edge]] = []
    for number in numbers:
        with open_slide(folder / "Classification" / f"img{number}" / f"img{number}.bmp") as slide:
            edges.append(picture_edges(slide.thumbnail(2048)))
    found = abutting_pairs(edges)
    named = {(numbers[pair.first], numbers[pair.second], pair.direction) for pair in found}
    with (folder / "abutting_edges.csv").open(encoding="utf-8") as file:
        table = {
            (int(row["img_a"]), int(row["img_b"]), row["b_is"].replace("-", " "))
            for row in csv.DictReader(file)
        }
    assert len(table) == 61
    assert table - named == {(74, 76, "below")}, "four fifths of that edge is blank"
    assert named - table == {(15, 16, "below")}, "a vessel runs on across that edge"
    assert all(pair.z >= MIN_Z + 0.5 and pair.correlation >= MIN_CORRELATION for pair in found)

"""A synthetic cohort: slides, table and splits in one folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from hardmil.files.csv_table import write_cells, write_table
from hardmil.phantom.slide import DEFAULT_FOCI, Foci, draw_phantom, write_phantom

BOTH_SHARE = 0.5
"""Share of the positive slides of a cohort that have look-alikes too."""


@dataclass(frozen=True)
class _Case:
    case_id: str
    part: str
    is_positive: bool
    look_alikes: bool
    seed: int


@dataclass(frozen=True)
class _SlideLine:
    """A line of slides.csv."""

    slide_id: str
    case_id: str
    label: str
    path: str
    mpp: float


def write_cohort(
    folder: Path,
    *,
    n_train: int = 24,
    n_test: int = 16,
    seed: int = 0,
    size_px: tuple[int, int] = (1200, 900),
    foci: Foci = DEFAULT_FOCI,
    train_look_alikes: float = 0.5,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write slides, their truth, slides.csv and splits_0.csv (as CLAM) to a folder; the path of slides.csv.

    Half of the slides in each part are positive; half of the negative slides have look-alikes, or another
    share of those for training. Each case has one slide.

    Args:
        folder: Created if needed; slides of the same name are replaced.
        n_train: Number of training slides.
        n_test: Number of test slides.
        seed: The same seed gives the same slides.
        size_px: Width and height of a slide.
        foci: Number and size of lesions and look-alikes on a slide that has any.
        train_look_alikes: Share of the negative training slides that have look-alikes.
        progress: Called with the id of each slide after it is written.

    Raises:
        StoreError: If the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    parts = _plan(rng, n=n_train, part="train", negative_share=train_look_alikes)
    parts += _plan(rng, n=n_test, part="test", negative_share=0.5)
    cases = [replace(case, case_id=f"case-{i:02d}") for i, case in enumerate(parts, start=1)]
    for case in cases:
        phantom = draw_phantom(
            case.seed,
            lesion=case.is_positive,
            look_alikes=case.look_alikes,
            width_px=size_px[0],
            height_px=size_px[1],
            foci=foci,
        )
        write_phantom(folder / "slides" / f"{case.case_id}.tif", phantom)
        if progress is not None:
            progress(case.case_id)
    _write_splits(folder / "splits_0.csv", cases=cases)
    table = folder / "slides.csv"
    write_table(table, map(_row, cases), row=_SlideLine)
    return table


def _plan(rng: np.random.Generator, *, n: int, part: str, negative_share: float) -> list[_Case]:
    """The cases of one part in random order, half positive; `negative_share` of the rest has look-alikes."""
    cases: list[_Case] = []
    for index in range(n):
        is_positive, of_its_label = index % 2 == 0, index // 2
        share = BOTH_SHARE if is_positive else negative_share
        look_alikes = int((of_its_label + 1) * share) > int(of_its_label * share)
        cases.append(_Case("", part, is_positive, look_alikes, int(rng.integers(2**31))))
    return [cases[index] for index in rng.permutation(n)]


def _row(case: _Case) -> _SlideLine:
    label = "positive" if case.is_positive else "negative"
    return _SlideLine(case.case_id, case.case_id, label, f"slides/{case.case_id}.tif", 0.5)


def _write_splits(path: Path, *, cases: list[_Case]) -> None:
    """Write a table in the layout of CLAM: an index column, and a column for each part."""
    train, test = ([case.case_id for case in cases if case.part == part] for part in ("train", "test"))
    lines = [
        {"": str(i), "train": a or "", "val": "", "test": b or ""}
        for i, (a, b) in enumerate(zip_longest(train, test))
    ]
    write_cells(path, lines, columns=("", "train", "val", "test"))

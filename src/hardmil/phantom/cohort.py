"""A synthetic cohort: slides, table and splits in one folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np

from hardmil.files.csv_table import write_cells, write_table
from hardmil.phantom.slide import DEFAULT_FOCI, Foci, draw_foci, write_phantom

BOTH_SHARE = 0.5
"""Share of the slides with lesions that have look-alikes too."""
THREE_CLASSES = ("normal", "lesion A", "lesion B")


@dataclass(frozen=True)
class _Case:
    case_id: str
    part: str
    label: str
    wanted: Mapping[str, bool]
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
    n_classes: Literal[2, 3] = 2,
    seed: int = 0,
    size_px: tuple[int, int] = (1200, 900),
    foci: Foci = DEFAULT_FOCI,
    train_look_alikes: float = 0.5,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write slides, their truth, slides.csv and splits_0.csv (as CLAM) to a folder; the path of slides.csv.

    Half of the slides in each part are positive; half of the negative slides have look-alikes, or another
    share of those for training. Each case has one slide. Of three classes, a third of the slides in each part
    is normal, has lesions A, or has lesions B; half of the slides with one lesion have look-alikes of the
    other, and normal slides have look-alikes of one of the two.

    Args:
        folder: Created if needed; slides of the same name are replaced.
        n_train: Number of training slides.
        n_test: Number of test slides.
        n_classes: 2: negative and positive. 3: normal, lesion A and lesion B.
        seed: The same seed gives the same slides.
        size_px: Width and height of a slide.
        foci: Number and size of lesions and look-alikes on a slide that has any.
        train_look_alikes: Share of the negative or normal training slides that have look-alikes.
        progress: Called with the id of each slide after it is written.

    Raises:
        StoreError: If the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    plan = partial(_plan, rng, n_classes=n_classes)
    parts = plan(n=n_train, part="train", negative_share=train_look_alikes)
    parts += plan(n=n_test, part="test", negative_share=0.5)
    cases = [replace(case, case_id=f"case-{i:02d}") for i, case in enumerate(parts, start=1)]
    for case in cases:
        phantom = draw_foci(
            case.seed, wanted=case.wanted, width_px=size_px[0], height_px=size_px[1], foci=foci
        )
        write_phantom(folder / "slides" / f"{case.case_id}.tif", phantom)
        if progress is not None:
            progress(case.case_id)
    _write_splits(folder / "splits_0.csv", cases=cases)
    table = folder / "slides.csv"
    write_table(table, map(_row, cases), row=_SlideLine)
    return table


def _plan(
    rng: np.random.Generator, *, n: int, part: str, negative_share: float, n_classes: int
) -> list[_Case]:
    """The cases of a part in random order, as many of each label.

    `negative_share` of those without a lesion have look-alikes.
    """
    labels = ("positive", "negative") if n_classes == 2 else (*THREE_CLASSES[1:], THREE_CLASSES[0])
    cases: list[_Case] = []
    for index in range(n):
        label, of_its_label = labels[index % n_classes], index // n_classes
        share = negative_share if label == labels[-1] else BOTH_SHARE
        n_before, n_now = int(of_its_label * share), int((of_its_label + 1) * share)
        number = n_before if n_now > n_before else None
        wanted = _two_kinds(label, number) if n_classes == 2 else _four_kinds(label, number)
        cases.append(_Case("", part, label, wanted, int(rng.integers(2**31))))
    return [cases[index] for index in rng.permutation(n)]


def _two_kinds(label: str, number: int | None) -> dict[str, bool]:
    """The foci of a slide of two classes; `number` counts slides of its label with look-alikes."""
    return {"lesion": label == "positive", "look-alike": number is not None}


def _four_kinds(label: str, number: int | None) -> dict[str, bool]:
    """The foci of a slide of three classes; normal slides have look-alikes of A and B in turn."""
    found: dict[str, bool] = {}
    for turn, (one, other) in enumerate((("A", "B"), ("B", "A"))):
        of_one = number is not None and (number % 2 == turn if label == "normal" else label.endswith(other))
        found |= {f"lesion {one}": label.endswith(one), f"look-alike {one}": of_one}
    return found


def _row(case: _Case) -> _SlideLine:
    return _SlideLine(case.case_id, case.case_id, case.label, f"slides/{case.case_id}.tif", 0.5)


def _write_splits(path: Path, *, cases: list[_Case]) -> None:
    """Write a table in the layout of CLAM: an index column, and a column for each part."""
    train, test = ([case.case_id for case in cases if case.part == part] for part in ("train", "test"))
    lines = [
        {"": str(i), "train": a or "", "val": "", "test": b or ""}
        for i, (a, b) in enumerate(zip_longest(train, test))
    ]
    write_cells(path, lines, columns=("", "train", "val", "test"))

"""Studies, bags and scores of slides that may have several of three classes, or none: a, b and c."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_classes import SMALL_TRAINING

from hardmil.bags.bag import Bag
from hardmil.config.task import TaskConfig
from hardmil.evaluation.results import PredictionRow, TrialKey, class_prediction_row
from hardmil.mil.bag_score import BagScore

NAMES = ("a", "b", "c")
MULTI = TaskConfig(names=NAMES, multi_label=True)

_SIZE_PX = 256


def lesions_of(k: int) -> list[int]:
    """The instances of a bag of `multi_bags` that are of class k, if the bag has it."""
    return [2 * k, 2 * k + 1]


def multi_bags(n: int = 24, *, slides_a_case: int = 1) -> list[Bag]:
    """Bags of features; their labels are all combinations of the three classes, in turn by case.

    Two patches of class k are shifted in dimension k. Bags without a class have a patch that is similar to
    it in every second round: shifted half as far.
    """
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        case = i // slides_a_case
        label = case % MULTI.n_labels
        features = rng.normal(size=(12 + i % 5, 6)).astype(np.float32)
        for k in range(3):
            if MULTI.is_yes(label, branch=k):
                features[lesions_of(k), k] += 6
            elif case // MULTI.n_labels % 2:
                features[7 + k, k] += 3
        coords = np.stack([np.arange(len(features)) * _SIZE_PX, np.full(len(features), 512)], axis=1)
        bags.append(Bag(f"s{i}", f"c{case}", label, features, coords.astype(np.int64), _SIZE_PX))
    return bags


def write_features(folder: Path, bags: Sequence[Bag]) -> None:
    """One feature file for each bag, with coordinates."""
    folder.mkdir(parents=True)
    for bag in bags:
        with h5py.File(folder / f"{bag.slide_id}.h5", "w") as file:
            file["features"] = bag.instances
            file.create_dataset("coords", data=bag.coords).attrs["patch_size_level0"] = bag.size_level0_px


def write_multi_study(folder: Path, *, n: int = 24, slides_a_case: int = 1, more: str = "") -> Path:
    """A study of features of `multi_bags`; its folder.

    Args:
        folder: Where it is written.
        n: Number of slides.
        slides_a_case: Slides of each case.
        more: Further lines of study.yaml.
    """
    bags = multi_bags(n, slides_a_case=slides_a_case)
    write_features(folder / "feats", bags)
    lines = [f"slide_id,case_id,{','.join(NAMES)}"]
    for bag in bags:
        cells = [str(bag.label >> k & 1) for k in range(3)]
        lines.append(f"{bag.slide_id},{bag.case_id},{','.join(cells)}")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.yaml").write_text(
        f"features: feats\nclasses: [a, b, c]\nmulti_label: true\narm: ours\n{SMALL_TRAINING}{more}",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def multi_study(tmp_path: Path) -> Path:
    """A multi-label study with features of 24 slides."""
    return write_multi_study(tmp_path / "several labels")


def multi_score(bag: Bag, scores: Sequence[float]) -> BagScore:
    """An output for a bag with these scores of the classes; branch k attends to instance k."""
    attention = np.full((3, len(bag)), 0.5 / (len(bag) - 1), np.float32)
    attention[np.arange(3), np.arange(3)] = 0.5
    logits = np.zeros(len(bag), np.float32)
    branches = tuple(
        BagScore(value, one, logits, one * (k + 1), 0.5 * k)
        for k, (value, one) in enumerate(zip(scores, attention, strict=True))
    )
    best = int(np.argmax(scores))
    shown = branches[best]
    return BagScore(
        shown.bag_score, shown.attention, logits, shown.contribution, shown.bias, np.array(scores), branches
    )


def multi_prediction_rows(
    arm: str = "ours", *, n_cases: int = 16, repeats: int = 2, shift: float = 1.0
) -> list[PredictionRow]:
    """Cases of one or two slides with drawn scores, higher by `shift` on the scale of logits where right."""
    slides = [(case, k) for case in range(n_cases) for k in range(1 + case % 2)]
    rows: list[PredictionRow] = []
    for repeat in range(repeats):
        rng = np.random.default_rng([7, repeat])
        fold = rng.integers(3, size=n_cases)
        for case, k in slides:
            label = (case + 3 * k) % MULTI.n_labels
            bag = Bag(f"s{case}-{k}", f"c{case}", label, np.zeros((3, 2), np.float32), _NOWHERE, 0)
            is_yes = MULTI.answers(np.array([label]))[0]
            logits = rng.normal(size=3) + shift * np.where(is_yes, 1, -1)
            score = multi_score(bag, (1 / (1 + np.exp(-logits))).round(2).tolist())
            trial = TrialKey(arm, "case", "grid", repeat, int(fold[case]))
            rows.append(class_prediction_row(bag, score, task=MULTI, trial=trial, thresholds=[0.3] * 3))
    return rows


_NOWHERE = np.zeros((3, 2), np.int64)

"""Studies, bags and scores of three classes: normal, lesions a and b, and normal patches similar to each."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.task import TaskConfig
from hardmil.evaluation.evaluation import TrialRows
from hardmil.evaluation.results import PredictionRow, ResultRow, TrialKey, class_prediction_row
from hardmil.metrics import BinaryMetrics
from hardmil.mil.bag_score import BagScore

NAMES = ("normal", "a", "b")
EXCLUSIVE = TaskConfig(names=NAMES)
WITH_NEGATIVE = TaskConfig(names=NAMES, negative="normal")
ORDERED = TaskConfig(names=("benign", "low", "high"), ordinal=True)

_SIZE_PX = 256
_NOWHERE = np.zeros((3, 2), np.int64)

SMALL_TRAINING = """training: {epochs: 15, lr: 0.003}
mining: {inner_folds: 2, n_clusters: 2}
evaluation: {folds: 3, operating_folds: 2, arms: [ours, ours+inject-oof]}
"""
"""Lines of study.yaml that make its commands quick."""


def class_bags(n: int = 18, *, slides_a_case: int = 1, n_classes: int = 3) -> list[Bag]:
    """Bags of features, classes in turn by case; two patches of class k > 0 are shifted in dimension k.

    Every second bag has a patch that is similar to a lesion of each other class: shifted half as far.
    """
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        case = i // slides_a_case
        label = case % n_classes
        features = rng.normal(size=(10 + i % 5, 6)).astype(np.float32)
        if label > 0:
            features[:2, label] += 6
        for other in range(1, n_classes):
            if other != label and case // n_classes % 2:
                features[1 + other, other] += 3
        coords = np.stack([np.arange(len(features)) * _SIZE_PX, np.full(len(features), 512)], axis=1)
        bags.append(Bag(f"s{i}", f"c{case}", label, features, coords.astype(np.int64), _SIZE_PX))
    return bags


def write_class_study(folder: Path, *, ordinal: bool = False, n: int = 18, more: str = "") -> Path:
    """A study of features of `class_bags`; its folder.

    Args:
        folder: Where it is written.
        ordinal: Whether the classes are benign < low < high, instead of normal, a and b.
        n: Number of slides, each of another case.
        more: Further lines of study.yaml.
    """
    names = ORDERED.names if ordinal else NAMES
    (folder / "feats").mkdir(parents=True)
    lines = ["slide_id,case_id,label"]
    for bag in class_bags(n):
        with h5py.File(folder / "feats" / f"{bag.slide_id}.h5", "w") as file:
            file["features"] = bag.instances
            file.create_dataset("coords", data=bag.coords).attrs["patch_size_level0"] = _SIZE_PX
        lines.append(f"{bag.slide_id},{bag.case_id},{names[bag.label]}")
    (folder / "slides.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    order = "ordinal: true" if ordinal else "negative: normal"
    (folder / "study.yaml").write_text(
        f"features: feats\nclasses: [{', '.join(names)}]\n{order}\narm: ours\n{SMALL_TRAINING}{more}",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def class_study(tmp_path: Path) -> Path:
    """A study of three exclusive classes, with features of 18 slides."""
    return write_class_study(tmp_path / "three classes")


@pytest.fixture
def ordered_study(tmp_path: Path) -> Path:
    """A study of three ordered classes, with features of 18 slides."""
    return write_class_study(tmp_path / "ordered classes", ordinal=True)


def class_score(bag: Bag, scores: list[float], *, task: TaskConfig = EXCLUSIVE) -> BagScore:
    """An output for a bag with these scores of the classes; each branch attends to another instance."""
    of_classes = np.array(scores)
    branches = tuple(
        BagScore(
            bag_score=float(value),
            attention=_peak(len(bag), at=number),
            instance_logit=np.full(len(bag), number - 1.0, np.float32),
            contribution=_peak(len(bag), at=number) * (number + 1),
            bias=0.5 * number,
        )
        for number, value in enumerate(task.branch_scores(of_classes))
    )
    best = int(np.argmax(of_classes))
    shown = branches[task.branch_of(best)]
    return BagScore(
        bag_score=float(of_classes[best]),
        attention=shown.attention,
        instance_logit=shown.instance_logit,
        contribution=shown.contribution,
        bias=shown.bias,
        class_scores=of_classes,
        branches=branches,
    )


def _peak(n: int, *, at: int) -> np.ndarray:
    attention = np.full(n, 0.5 / (n - 1), np.float32)
    attention[at % n] = 0.5
    return attention


def drawn_class_scores(
    labels: np.ndarray, *, n_classes: int = 3, shift: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Scores [bag, class] that sum to 1, higher for the true class by `shift` on the scale of logits."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += shift
    chances = np.exp(logits)
    return chances / chances.sum(axis=1, keepdims=True)


def class_prediction_rows(
    arm: str = "ours",
    *,
    task: TaskConfig = EXCLUSIVE,
    n_cases: int = 12,
    repeats: int = 2,
    seed: int = 0,
    shift: float = 1.0,
    knows_op: bool = True,
) -> list[PredictionRow]:
    """Cases of one or two slides, some with slides of two classes; scores differ by repeat.

    Without `knows_op`, the first branch has no operating point.
    """
    slides = [(case, k) for case in range(n_cases) for k in range(1 + case % 2)]
    labels = np.array([(case + (case % 4 == 1) * k) % task.n_classes for case, k in slides])
    thresholds = [0.3 if knows_op else np.nan, *[0.3] * (task.n_branches - 1)]
    rows: list[PredictionRow] = []
    for repeat in range(repeats):
        fold = np.random.default_rng([7, repeat]).integers(3, size=n_cases)
        scores = drawn_class_scores(labels, n_classes=task.n_classes, shift=shift, seed=seed * 100 + repeat)
        scores = scores.round(2)
        scores[:, 0] = 1 - scores[:, 1:].sum(axis=1)
        for (case, k), label, of_bag in zip(slides, labels.tolist(), scores, strict=True):
            bag = Bag(f"s{case}-{k}", f"c{case}", label, np.zeros((3, 2), np.float32), _NOWHERE, 0)
            score = class_score(bag, of_bag.tolist(), task=task)
            trial = TrialKey(arm, "case", "grid", repeat, int(fold[case]))
            rows.append(class_prediction_row(bag, score, task=task, trial=trial, thresholds=thresholds))
    return rows


def class_trial_rows(
    arms: Sequence[str] = ("ours",),
    *,
    task: TaskConfig = EXCLUSIVE,
    shifts: Sequence[float] = (),
    n_cases: int = 12,
) -> TrialRows:
    """Rows of a trial for each repeat and fold of `class_prediction_rows`; `shifts` are by arm."""
    results = [
        ResultRow(TrialKey(arm, "case", "grid", repeat, fold), "hash", 1, 2, BinaryMetrics(*[0.5] * 6))
        for arm in arms
        for repeat in range(2)
        for fold in range(3)
    ]
    predictions = [
        row
        for number, (arm, shift) in enumerate(zip(arms, shifts or [1.0] * len(arms), strict=True))
        for row in class_prediction_rows(arm, task=task, seed=number, shift=shift, n_cases=n_cases)
    ]
    return TrialRows(results, predictions, [])

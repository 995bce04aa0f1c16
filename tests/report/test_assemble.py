"""report.html of an evaluation: its numbers are those of the tables, and it stays small."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.reports import Page as Parsed
from tests.support.reports import cells_of, numbers_in
from tests.support.studies import HEIGHT, WIDTH, Hardmil, quick, read_csv, write_csv

from hardmil.bags.bag import Bag
from hardmil.bags.folds import repeated_folds
from hardmil.config.study import StudyConfig
from hardmil.evaluation.arms import arm
from hardmil.evaluation.attention_file import write_attention
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import HardNegativeRow, PredictionRow, ResultRow, key_of, prediction_row
from hardmil.files.csv_table import read_table
from hardmil.metrics import BinaryMetrics
from hardmil.mil.bag_score import BagScore
from hardmil.mining.hard_instances import HardInstance
from hardmil.report.assemble import Page, write_evaluation_report
from hardmil.report.page_data import COLUMNS
from hardmil.statistics.tables import write_statistics

pytestmark = pytest.mark.slow

CLASSES = ("normal", "tumour")


def test_numbers_of_the_page_are_those_of_the_tables(hardmil: Hardmil, study: Path):
    with_a_white_slide(study)
    assert hardmil("encode", study).code == 0
    evaluated = hardmil("evaluate", study, *quick("evaluation.operating_folds=2"))
    assert evaluated.code == 0, evaluated.err
    run = study / "runs" / "main"
    page = Parsed((run / "report.html").read_text(encoding="utf-8"))

    results = read_table(run / "results.csv", ResultRow)
    for name in dict.fromkeys(row.trial.arm for row in results):
        rows = [row.metrics for row in results if row.trial.arm == name]
        cells = dict(zip(COLUMNS, cells_of(page, name), strict=False))
        for metric in ("accuracy", "recall", "f_score", "auc", "fpr"):
            mean = np.mean([getattr(row, metric) for row in rows])
            assert numbers_in(cells[metric])[0] == pytest.approx(mean, abs=6e-4)
    assert page.attributes("img")
    assert all((image.get("alt") or "").strip() for image in page.attributes("img"))
    check_counts(page, run=run, arm="ours+fmb-oof")
    assert "white" in page.text
    assert "no patch" in page.text


def with_a_white_slide(study: Path) -> None:
    """One more slide in the table, without tissue."""
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 245, np.uint8)).save(study / "slides" / "white.png")
    rows: list[dict[str, object]] = [dict(row) for row in read_csv(study / "slides.csv")]
    rows.append({"slide_id": "white", "case_id": "w", "label": "normal", "path": "slides/white.png"})
    write_csv(study / "slides.csv", rows)


def check_counts(page: Parsed, *, run: Path, arm: str) -> None:
    """Counts of the confusion, and the slides under each, against predictions.csv."""
    rows = [
        row
        for row in read_table(run / "predictions.csv", PredictionRow)
        if (key_of(row).arm, key_of(row).repeat) == (arm, 0)
    ]
    calls = {row.slide_id: (row.label, row.op_prediction or row.prediction) for row in rows}
    counts = Counter(calls.values())
    for heading, label, called in (
        ("False positives", "normal", "tumour"),
        ("False negatives", "tumour", "normal"),
        ("True positives", "tumour", "tumour"),
        ("True negatives", "normal", "normal"),
    ):
        n = counts[label, called]
        assert f"{heading}: {n}" in page.text
        assert f"{n} {heading.lower()}" in page.text
    n_wrong = sum(n for (label, called), n in counts.items() if label != called)
    pictured = [one["alt"] for one in page.attributes("img") if str(one["alt"]).startswith("Slide 00")]
    assert len([alt for alt in pictured if "labelled" not in str(alt)]) == n_wrong


@dataclass(frozen=True, eq=False)
class Synthetic:
    """An evaluation without a training, its rows, and where its slides are."""

    evaluation: Evaluation
    rows: TrialRows
    paths: Mapping[str, Path | None]


@pytest.fixture
def hundred(tmp_path: Path) -> Synthetic:
    """A hundred slides of 1,000 x 700 px, three in four called wrongly, each with mined patches."""
    rng = np.random.default_rng(0)
    tissue = rng.normal((180, 110, 165), 30, (900, 1200, 3)).clip(0, 255).astype(np.uint8)
    tissue = np.asarray(Image.fromarray(tissue).resize((2400, 1800), Image.Resampling.BICUBIC))
    corners = np.stack(np.meshgrid(np.arange(0, 992, 32), np.arange(0, 672, 32)), axis=-1).reshape(-1, 2)
    bags, paths = [], {}
    for i in range(100):
        paths[f"s{i:03d}"] = tmp_path / "slides" / f"s{i:03d}.png"
        paths[f"s{i:03d}"].parent.mkdir(exist_ok=True)
        left, top = int(rng.integers(1400)), int(rng.integers(1100))
        picture = Image.fromarray(tissue[top : top + 700, left : left + 1000])
        picture.save(paths[f"s{i:03d}"], compress_level=1)
        instances = rng.normal(size=(len(corners), 2)).astype(np.float32)
        bags.append(Bag(f"s{i:03d}", f"c{i}", i % 2, instances, corners, 32))
    cohort = make_cohort(bags)
    evaluation = Evaluation(
        cohort=cohort,
        folds=repeated_folds(cohort.labels, cohort.cases, n_folds=2, n_repeats=1, seed=0),
        arms=[
            arm(name, study=StudyConfig(), kind="features")
            for name in ("ours", "ours+fmb", "ours+fmb@random")
        ],
        classes=CLASSES,
        folder=tmp_path / "run",
        split="case",
        patches="grid",
        seed=0,
    )
    return Synthetic(evaluation, synthetic_rows(evaluation, rng=rng), paths)


def synthetic_rows(evaluation: Evaluation, *, rng: np.random.Generator) -> TrialRows:
    rows = TrialRows([], [], [])
    for trial in evaluation.trials():
        key = evaluation.key(trial)
        digest = trial.config_hash(evaluation.cohort)
        test = [evaluation.cohort.bags[i] for i in trial.fold.test]
        attention = [rng.dirichlet(np.ones(len(bag))).astype(np.float32) for bag in test]
        scores = [
            BagScore(
                float(np.clip(0.5 + (0.1 if i % 4 == 0 else -0.1) * (2 * bag.label - 1), 0, 1)), one, one
            )
            for i, (bag, one) in enumerate(zip(test, attention, strict=True))
        ]
        path = evaluation.folder / "trials" / digest / "attention.h5"
        path.parent.mkdir(parents=True)
        write_attention(path, test, scores=scores)
        metrics = BinaryMetrics(*[0.5] * 6)
        rows.results.append(ResultRow(key, digest, 9, 90, metrics, op_threshold=0.5, seconds=90.0))
        for bag, score in zip(test, scores, strict=True):
            rows.predictions.append(
                prediction_row(bag, score.bag_score, classes=CLASSES, trial=key, op_threshold=0.5)
            )
            rows.hard_negatives.extend(HardNegativeRow(key, one) for one in mined(bag, trial.arm.name))
    return rows


def mined(bag: Bag, name: str) -> list[HardInstance]:
    """Three instances of a negative bag, each in a cluster of its own."""
    if bag.label == 1 or "+" not in name:
        return []
    source = "random" if "@" in name else "out-of-fold"
    return [
        HardInstance(
            round=1,
            slide_id=bag.slide_id,
            case_id=bag.case_id,
            instance=i,
            x=int(bag.coords[i, 0]),
            y=int(bag.coords[i, 1]),
            size_level0=32,
            attention=0.01 * i,
            bag_score=0.6,
            cluster=i,
            source=source,
        )
        for i in range(3)
    ]


def test_a_hundred_slides_stay_below_five_megabytes(hundred: Synthetic):
    arm_name = "ours+fmb"
    evaluation, rows = hundred.evaluation, hundred.rows
    page = Page("Study", "Why?", hundred.paths, StudyConfig(arm=arm_name))
    statistics = write_statistics(evaluation.folder, rows=rows, positive=CLASSES[1], seed=0)
    (evaluation.folder / "run.json").write_text('{"command": "synthetic"}', encoding="utf-8")
    path = write_evaluation_report(page, evaluation=evaluation, rows=rows, statistics=statistics, failures=[])
    size, parsed = path.stat().st_size, Parsed(path.read_text(encoding="utf-8"))
    assert 300_000 < size < 5_000_000
    wrong = [
        row for row in rows.predictions if key_of(row).arm == arm_name and row.label != row.op_prediction
    ]
    assert len(wrong) > 60
    shown = [one for one in parsed.attributes("img") if str(one["alt"]).startswith("Attention over slide")]
    assert 10 < len(shown) <= 40
    assert "the rest are named with their scores" in parsed.text
    assert all(row.slide_id in parsed.text for row in wrong)
    assert "3 of its patches were mined (ours+fmb; round 1)" in parsed.text
    assert "Cluster 2: " in parsed.text
    assert "time in trials, summed9 min 0 s" in parsed.text
    assert all((one.get("alt") or "").strip() for one in parsed.attributes("img"))

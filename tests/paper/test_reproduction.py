from pathlib import Path

import pytest
from tests.support.trainings import small_bags

from hardmil.errors import ConfigError
from hardmil.evaluation.evaluation import Evaluation
from hardmil.evaluation.results import ResultRow, TrialKey
from hardmil.files.csv_table import write_table
from hardmil.metrics import BinaryMetrics
from hardmil.paper.images import PublishedSet
from hardmil.paper.reproduction import (
    FOLDS,
    REPEATS,
    Reproduction,
    arms_of_earlier_calls,
    interval_notes,
    reproduction_config,
    reproduction_evaluation,
    what_was_run,
)
from hardmil.paper.tables import PAPER_ARMS


def _evaluation(folder: Path, protocol: Reproduction) -> Evaluation:
    bags = small_bags()
    paths = {bag.slide_id: folder for bag in bags}
    published = PublishedSet(bags, ("normal", "epithelial"), (), paths, mpp=None)
    config = reproduction_config("colon", protocol=protocol, overrides=())
    return reproduction_evaluation(
        "colon", published=published, config=config, protocol=protocol, output=folder, quiet=True
    )


def test_by_default_the_settings_are_the_papers():
    config = reproduction_config("colon", protocol=Reproduction(), overrides=())
    assert (config.encode, config.patches.mode, config.training.epochs) == ("pixels", "grid", 120)
    words = what_was_run(Reproduction(), name="colon", config=config)
    assert f"{FOLDS['colon']} folds" in words
    assert f"{REPEATS} repeats" in words
    assert "120 epochs" in words


def test_a_run_may_be_shorter_and_overrides_come_last():
    protocol = Reproduction(folds=2, repeats=1, epochs=3, patches="nuclei", split="group")
    config = reproduction_config("colon", protocol=protocol, overrides=["training.epochs=4", "seed=5"])
    assert (config.patches.mode, config.training.epochs, config.seed) == ("nuclei", 4, 5)
    words = what_was_run(protocol, name="colon", config=config)
    for fact in ("colon", "group", "nuclei", "2 folds", "1 repeats", "4 epochs"):
        assert fact in words


@pytest.mark.parametrize(
    ("name", "protocol", "message"),
    [
        ("lung", Reproduction(), r"lung.*colon or ucsb"),
        ("ucsb", Reproduction(split="patient"), r"--split patient.*image or group"),
    ],
)
def test_other_sets_and_splits_are_refused(name: str, protocol: Reproduction, message: str):
    with pytest.raises(ConfigError, match=message):
        reproduction_config(name, protocol=protocol, overrides=())


def test_what_makes_intervals_too_narrow_depends_on_the_split():
    (images,), (groups,) = interval_notes("ucsb", split="image"), interval_notes("colon", split="group")
    assert "image" in images
    assert "9 patients" in groups
    assert interval_notes("ucsb", split="group") == []


def test_each_arm_that_mines_is_run_with_its_control(tmp_path: Path):
    protocol = Reproduction(folds=2, repeats=3, arms=("ours+sb", "abmil"), only_folds=(1,))
    evaluation = _evaluation(tmp_path, protocol)
    assert [one.name for one in evaluation.arms] == ["ours+sb", "ours+sb@random", "abmil"]
    assert [len(folds) for folds in evaluation.folds] == [2, 2, 2]
    trials = {(trial.arm.name, trial.repeat, trial.fold_number) for trial in evaluation.trials()}
    assert trials == {(one.name, repeat, 1) for one in evaluation.arms for repeat in range(3)}
    assert (evaluation.folder, evaluation.split, evaluation.patches) == (tmp_path, "image", "grid")


def test_by_default_the_arms_and_folds_are_the_papers(tmp_path: Path):
    evaluation = _evaluation(tmp_path, Reproduction(folds=2))
    names = [one.name for one in evaluation.arms if not one.is_control]
    assert names == list(PAPER_ARMS)
    assert len(evaluation.folds) == REPEATS


def test_arms_of_earlier_calls_are_those_of_the_table_that_are_still_known(tmp_path: Path):
    protocol = Reproduction(folds=2, arms=("ours",))
    evaluation = _evaluation(tmp_path, protocol)
    config = reproduction_config("colon", protocol=protocol, overrides=())
    assert arms_of_earlier_calls(evaluation, config=config) == []
    rows = [
        ResultRow(TrialKey(name, "image", "grid", 0, fold), "hash", 0, 0, BinaryMetrics(*[0.5] * 6))
        for name in ("ours+mb", "ours+retired", "ours+mb", "max")
        for fold in range(2)
    ]
    write_table(tmp_path / "results.csv", rows, row=ResultRow)
    found = arms_of_earlier_calls(evaluation, config=config)
    assert [one.name for one in found] == ["ours+mb", "max"]
    assert found[0].mining.use == "mb"

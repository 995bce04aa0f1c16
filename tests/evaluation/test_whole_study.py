import tempfile
from pathlib import Path

import numpy as np
import pytest
from tests.support.trainings import small_bags, weights_of

from hardmil.config.study import StudyConfig
from hardmil.device import Device
from hardmil.errors import StoreError
from hardmil.evaluation.arms import arm
from hardmil.evaluation.cohort import make_cohort
from hardmil.evaluation.whole_study import temporary_trainer, train_whole, whole_trial

CPU = Device("cpu", bfloat16=False)
STUDY = StudyConfig.model_validate({"network": {"embedding_dim": 4}, "training": {"epochs": 1}})


def test_a_whole_trial_has_no_test_bags():
    cohort = make_cohort(small_bags())
    wanted = arm("ours", study=STUDY, kind="features")
    trial = whole_trial(wanted, cohort=cohort, seed=4, operating=None)
    np.testing.assert_array_equal(trial.fold.train, np.arange(12))
    assert (len(trial.fold.test), trial.seed, trial.arm.name) == (0, 4, "ours")


def test_each_member_has_its_seed_and_trainings_are_kept_until_the_end():
    cohort = make_cohort(small_bags())
    wanted = arm("ours-seeds5", study=STUDY, kind="features")
    epochs: list[int] = []
    with temporary_trainer(cohort, device=CPU, on_epoch=lambda epoch, loss: epochs.append(epoch)) as trainer:
        trial = whole_trial(wanted, cohort=cohort, seed=4, operating=None)
        first, again = (train_whole(trial, cohort=cohort, trainer=trainer) for _ in range(2))
        kept = trainer.folder
        assert kept.exists()
    assert not kept.exists()
    assert len(first) == 5
    assert len(epochs) == 5  # and none the second time
    for one, other in zip(first, again, strict=True):
        assert weights_of(one.model) == weights_of(other.model)
    assert weights_of(first[0].model) != weights_of(first[1].model)


def test_a_temporary_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        pytest.raises(StoreError, match=r"temporary folder \(TMPDIR\)"),
        temporary_trainer(make_cohort(small_bags()), device=CPU),
    ):
        pass

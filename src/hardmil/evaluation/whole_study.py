"""Training on all bags of a study, without a test fold: for a bundle, and for a classifier."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hardmil.bags.folds import Fold
from hardmil.device import Device
from hardmil.evaluation.arms import Arm
from hardmil.evaluation.cohort import Cohort
from hardmil.evaluation.trainer import Trainer
from hardmil.evaluation.trial import OperatingSettings, Trial
from hardmil.files.atomic import store_errors
from hardmil.mining.procedure import Mined, train_members


@contextmanager
def temporary_trainer(
    cohort: Cohort,
    *,
    device: Device,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Iterator[Trainer]:
    """A trainer that keeps what it trained until the end: candidates, mining and the threshold share it.

    Raises:
        StoreError: If the temporary folder cannot be written.
    """
    with store_errors(Path("temporary folder (TMPDIR)"), every=True):
        temporary = TemporaryDirectory()
    with temporary as kept:
        yield Trainer(Path(kept), cohort.digest, device, on_epoch)


def whole_trial(arm: Arm, *, cohort: Cohort, seed: int, operating: OperatingSettings | None) -> Trial:
    """The trial that trains on all bags."""
    everything = Fold(np.arange(len(cohort.bags)), np.zeros(0, dtype=np.int64))
    return Trial(arm, 0, 0, everything, seed, operating)


def train_whole(trial: Trial, *, cohort: Cohort, trainer: Trainer) -> list[Mined]:
    """The networks of the arm of a trial, trained on all bags."""
    return train_members(
        cohort.bags,
        config=trial.arm.model,
        mining=trial.arm.mining,
        seed=trial.seed,
        train=trainer.train,
        reviewer=cohort.reviewer(cohort.bags) if trial.arm.uses_verdicts else None,
    )

"""One arm on one fold: base -> inner folds -> mine -> retrain -> test; each training kept and shared."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.folds import Fold
from hardmil.config import BagKind, ModelConfig, fingerprint, resolve_config
from hardmil.metrics import BinaryMetrics, binary_metrics
from hardmil.mil.bundle import load_network, save_network
from hardmil.mil.inference import BagScore, score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import Device, ExtraBags, fit
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.procedure import train_and_mine
from hardmil.study.arms import Arm

# Raised whenever the same config would give other numbers: no result of older code is taken for a new one.
CODE_VERSION = 2


@dataclass(frozen=True, eq=False)
class Cohort:
    """The bags that all trials of a study share, and the digits that stand for them."""

    bags: Sequence[Bag]
    digest: str

    @property
    def labels(self) -> np.ndarray:
        """0 or 1, one a bag."""
        return np.array([bag.label for bag in self.bags])

    @property
    def cases(self) -> list[str]:
        """The case of each bag."""
        return [bag.case_id for bag in self.bags]


def make_cohort(bags: Sequence[Bag]) -> Cohort:
    """A cohort whose digest changes with any id, label, coordinate or instance."""
    digest = hashlib.blake2b(digest_size=8)
    for bag in bags:
        digest.update(f"{bag.slide_id}\0{bag.case_id}\0{bag.label}\0{bag.instances.shape}\0".encode())
        digest.update(np.ascontiguousarray(bag.coords).data)
        digest.update(np.ascontiguousarray(bag.instances).data)
    return Cohort(bags, digest.hexdigest())


@dataclass(frozen=True, eq=False)
class Trial:
    """One arm on one fold."""

    arm: Arm
    repeat: int
    fold_number: int
    fold: Fold
    seed: int

    def config_hash(self, cohort: Cohort) -> str:
        """Digits that change with anything the trial's numbers depend on."""
        mining = self.arm.mining.model_dump(mode="json") if self.arm.mining.use != "none" else None
        kind = cohort.bags[0].kind
        model = resolve_config(self.arm.model, kind=kind).model_dump(mode="json")
        sides = [self.fold.train.tolist(), self.fold.test.tolist()]
        return fingerprint([CODE_VERSION, model, mining, sides, self.seed, cohort.digest])


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What a trial leaves behind."""

    metrics: BinaryMetrics
    test_scores: list[BagScore]
    hard_negatives: tuple[HardInstance, ...]
    n_false_positive_bags: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains networks, or takes from the folder those trained before from exactly the same."""

    folder: Path | None
    cohort_digest: str
    device: Device
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None

    def train(
        self,
        bags: Sequence[Bag],
        *,
        config: ModelConfig,
        seed: int,
        extra: ExtraBags | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        """`fit`, remembered."""
        config = resolve_config(config, kind=bags[0].kind)

        def fresh() -> BagClassifier:
            return fit(
                bags,
                config=config,
                seed=seed,
                device=self.device,
                extra=extra,
                start=start,
                on_epoch=self.on_epoch,
            )

        if self.folder is None:
            return fresh()
        key = fingerprint(
            [
                CODE_VERSION,
                config.model_dump(mode="json"),
                seed,
                [bag.slide_id for bag in bags],
                self.cohort_digest,
                [self.device.bfloat16, self.device.name.partition(":")[0]],
                extra.fingerprint() if extra else None,
                weights_digest(start) if start else None,
            ]
        )
        path = self.folder / key / "model.safetensors"
        if not path.exists():
            save_network(path, fresh())
        return load_network(path, device=self.device.name)


def weights_digest(network: BagClassifier) -> str:
    """Digits that stand for a network's weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def run_trial(trial: Trial, *, cohort: Cohort, trainer: Trainer) -> TrialResult:
    """Train the arm on the training fold, score the test fold once."""
    started = time.monotonic()
    training = [cohort.bags[i] for i in trial.fold.train]
    test = [cohort.bags[i] for i in trial.fold.test]
    mined = train_and_mine(
        training, config=trial.arm.model, mining=trial.arm.mining, seed=trial.seed, train=trainer.train
    )
    scores = score_bags(mined.model, test)
    labels = np.array([bag.label for bag in test])
    return TrialResult(
        metrics=binary_metrics(labels, np.array([score.bag_score for score in scores])),
        test_scores=scores,
        hard_negatives=mined.pool,
        n_false_positive_bags=mined.n_false_positive_bags,
        seconds=time.monotonic() - started,
    )


def longest_training(arm: Arm, *, kind: BagKind) -> int:
    """Epochs of an arm if nothing is shared and every round mines: the length of its progress bar."""
    epochs = resolve_config(arm.model, kind=kind).training.epochs or 0
    if arm.mining.use == "none":
        return epochs
    inner = arm.mining.inner_folds if arm.mining.source == "out-of-fold" else 0
    return epochs * (1 + arm.mining.rounds * (1 + inner))

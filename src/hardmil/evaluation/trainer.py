"""Training that reuses networks already trained on exactly the same input."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hardmil.bags.bag import Bag
from hardmil.config.evaluation import FisherConfig
from hardmil.config.model import ResolvedModelConfig, training_config
from hardmil.config.section import fingerprint
from hardmil.device import Device
from hardmil.errors import BundleError
from hardmil.evaluation.together import Meeting
from hardmil.files.atomic import write_atomically
from hardmil.mil.network import BagClassifier
from hardmil.mil.population import Training
from hardmil.mil.training import TrainingExtras, fit
from hardmil.mil.weights import load_network, save_network, weights_digest

# Increased when the same config would give other numbers, so that results of older code are not reused.
CODE_VERSION = 3
# The same for networks that see pixels. 1: dropout from a counter.
PIXEL_VERSION = 1


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains networks, or loads those already trained on exactly the same input from the folder."""

    folder: Path
    cohort_digest: str
    device: Device
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None
    meeting: Meeting | None = None
    """Where other trials wait too, so that trainings are run together."""

    def train(
        self,
        bags: Sequence[Bag],
        *,
        config: ResolvedModelConfig,
        seed: int,
        extras: TrainingExtras | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        """The network that `fit` gives; loaded from the folder if it is there and not damaged.

        Networks that differ only in how they score a bag are trained once.
        """
        wanted, config = config, training_config(config)
        key = fingerprint(
            [
                CODE_VERSION,
                config.hashed(),
                seed,
                [(bag.slide_id, annotations_digest(bag)) for bag in bags],
                self.cohort_digest,
                [self.device.bfloat16, self.device.name.partition(":")[0]],
                extras.fingerprint() if extras else None,
                weights_digest(start) if start else None,
                *([PIXEL_VERSION] if bags[0].kind == "pixels" else []),
            ]
        )
        path = self.folder / key / "model.safetensors"
        network = _kept(path, device=self.device)
        if network is None:
            training = Training(bags, seed, extras, start)
            alone, keep = partial(self._fit, training, config=config), partial(save_network, path)
            if self.meeting is None:
                keep(alone())
            else:
                self.meeting.train(key, training, config=config, alone=alone, keep=keep)
            network = load_network(path, device=self.device.name)
        network.config = wanted
        return network

    def _fit(self, training: Training, *, config: ResolvedModelConfig) -> BagClassifier:
        return fit(
            training.bags,
            config=config,
            seed=training.seed,
            device=self.device,
            extras=training.extras,
            start=training.start,
            on_epoch=self.on_epoch,
        )

    def describe(self, bag: Bag, *, config: FisherConfig) -> Float[np.ndarray, "patch descriptor"]:
        """The descriptors that `fisher.describe` gives; loaded from the folder if they are there."""
        from hardmil.mil import fisher

        key = fingerprint([CODE_VERSION, self.cohort_digest, bag.slide_id, config.radii, config.step])
        path = self.folder / "descriptors" / f"{key}.npy"
        with suppress(OSError, ValueError, EOFError):  # not there, or damaged
            return np.load(path)
        found = fisher.describe(bag, config=config)
        with write_atomically(path) as draft:
            np.save(draft, found)
        return found


def _kept(path: Path, *, device: Device) -> BagClassifier | None:
    """The network in a file; None if there is none, or if the file is damaged."""
    if not path.exists():
        return None
    try:
        return load_network(path, device=device.name)
    except BundleError:
        return None


def annotations_digest(bag: Bag) -> str | None:
    """A hash of instance labels and weights of a bag; None if it has neither."""
    known = [bag.instance_labels, bag.instance_weights]
    if all(values is None for values in known):
        return None
    kept = [b"" if values is None else values.tobytes() for values in known]
    return hashlib.blake2b(b"|".join([bag.coords.tobytes(), *kept]), digest_size=8).hexdigest()

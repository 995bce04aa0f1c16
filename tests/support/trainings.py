"""Small bags, and the trainings that are really run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, ResolvedModelConfig, resolve_config
from hardmil.device import Device
from hardmil.evaluation import trainer as trainer_module
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit

Weights = dict[str, list[Any]]


def small_bags(n: int = 12) -> list[Bag]:
    """One slide a case, odd ones positive, their first instance far off."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(5, 3)).astype(np.float32)
        features[0, 0] += 4 * (i % 2)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, features, rng.integers(0, 99, (5, 2)), 16))
    return bags


@pytest.fixture
def n_fits(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The slides of each training that is really run."""
    calls: list[list[str]] = []

    def counted(bags: Any, **rest: Any) -> BagClassifier:
        calls.append([bag.slide_id for bag in bags])
        return fit(bags, **rest)

    monkeypatch.setattr(trainer_module, "fit", counted)
    return calls


def small_config(*, dropout: float = 0.1, **settings: Any) -> ResolvedModelConfig:
    """Settings of a network on features that trains in a moment."""
    content = {
        "network": {"embedding_dim": 8, "dropout": dropout},
        "pooling": {"attention_dim": 4},
        "training": {"epochs": 3, "lr": 0.02} | settings,
    }
    return resolve_config(ModelConfig.model_validate(content), kind="features")


def feature_bags(
    n: int = 16, *, shift: float = 3.0, size: int = 6, positives: int | None = None
) -> list[Bag]:
    """Feature bags; two instances of a positive one are shifted."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        label = i % 2 if positives is None else int(i < positives)
        features = rng.normal(2, 3, size=(size + i % 3, 4)).astype(np.float32)
        features[:2, 0] += 3 * shift * label
        bags.append(Bag(f"s{i}", f"c{i}", label, features, np.zeros((len(features), 2), np.int64), 0))
    return bags


def trained_weights(bags: Sequence[Bag], *, config: ResolvedModelConfig, seed: int = 0) -> Weights:
    """The weights of a network after its training, to compare with those of others."""
    return weights_of(fit(bags, config=config, seed=seed, device=Device("cpu", bfloat16=False)))


def weights_of(network: BagClassifier) -> Weights:
    """The weights of a network as plain numbers, by name."""
    return {name: value.tolist() for name, value in network.state_dict().items()}

"""The procedure with scores that follow a script, and trainings that are only recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.model import ModelConfig, ResolvedModelConfig, resolve_config
from hardmil.mil.bag_score import BagScore
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import TrainingExtras
from hardmil.mining import procedure
from hardmil.mining.hard_bags import HardBags
from hardmil.mining.procedure import Mined, train_and_mine

CONFIG = resolve_config(
    ModelConfig.model_validate(
        {
            "network": {"embedding_dim": 8, "dropout": 0.1},
            "pooling": {"attention_dim": 4},
            "training": {"epochs": 6, "lr": 0.02, "precision": "float32"},
        }
    ),
    kind="features",
)
N = 5


def script_bags(n: int = 12, *, slides_a_case: int = 1) -> list[Bag]:
    """Slides s0, s1, ...: odd ones positive; the cases hold one or more slides of one label."""
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(n):
        features = rng.normal(size=(N + i % 3, 4)).astype(np.float32)
        features[0, 0] += 4 * (i % 2)
        features[1, 1] += 3 * (i % 4 == 0)  # what may fool it
        coords = np.stack([np.arange(len(features)), np.full(len(features), i)], axis=1)
        case = f"c{i % 2}-{i // 2 // slides_a_case}"
        bags.append(Bag(f"s{i}", case, i % 2, features, coords, 16))
    return bags


@dataclass
class Call:
    bags: list[Bag]
    seed: int
    extras: TrainingExtras | None
    start: BagClassifier | None
    model: BagClassifier


@dataclass
class NoTraining:
    """Trains nothing; records its calls."""

    calls: list[Call] = field(default_factory=list)

    def __call__(
        self,
        bags: Sequence[Bag],
        *,
        config: ResolvedModelConfig,
        seed: int,
        extras: TrainingExtras | None = None,
        start: BagClassifier | None = None,
    ) -> BagClassifier:
        assert config == CONFIG
        model = BagClassifier(CONFIG, instance_shape=(4,)).eval()
        self.calls.append(Call(list(bags), seed, extras, start, model))
        return model

    def extras(self, number: int) -> HardBags:
        found = self.calls[number].extras
        assert isinstance(found, HardBags)
        return found


def score_on(bag: Bag, value: float, *, hard: tuple[int, ...] = (0,)) -> BagScore:
    """A score whose attention is on the instances named."""
    w = np.full(len(bag), 0.01, np.float32)
    w[list(hard)] = 1.0
    return BagScore(value, w / w.sum(), np.zeros(len(bag), np.float32))


Script = Callable[[BagClassifier, Bag], BagScore]


def play(monkeypatch: pytest.MonkeyPatch, script: Script) -> list[tuple[BagClassifier, Bag]]:
    """Let `score_bags` say what the script says; returns who scored what."""
    scored: list[tuple[BagClassifier, Bag]] = []

    def answer(model: BagClassifier, bags: Sequence[Bag]) -> list[BagScore]:
        scored.extend((model, bag) for bag in bags)
        return [script(model, bag) for bag in bags]

    monkeypatch.setattr(procedure, "score_bags", answer)
    return scored


def wrong_about(*slides: str, hard: tuple[int, ...] = (0,)) -> Script:
    """Positive bags 0.9, negative bags 0.1, but for these."""

    def script(model: BagClassifier, bag: Bag) -> BagScore:
        return score_on(bag, 0.9 if bag.label == 1 or bag.slide_id in slides else 0.1, hard=hard)

    return script


def run_mining(
    train: NoTraining, *, bags: Sequence[Bag] | None = None, seed: int = 3, **settings: Any
) -> Mined:
    mining = MiningConfig.model_validate({"use": "mb"} | settings)
    return train_and_mine(bags or script_bags(), config=CONFIG, mining=mining, seed=seed, train=train)

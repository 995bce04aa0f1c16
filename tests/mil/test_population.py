from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, ResolvedModelConfig, resolve_config
from hardmil.device import Device
from hardmil.errors import TrainingError
from hardmil.mil.network import BagClassifier
from hardmil.mil.population import Training, can_join_population, fit_population
from hardmil.mil.training import fit

CPU = Device("cpu", bfloat16=False)


def _config(**sections: dict[str, Any]) -> ResolvedModelConfig:
    content: dict[str, Any] = {
        "network": {"embedding_dim": 24},
        "pooling": {"attention_dim": 8},
        "training": {"epochs": 3, "lr": 1e-4},
    }
    for name, settings in sections.items():
        content[name] = {**content.get(name, {}), **settings}
    return resolve_config(ModelConfig.model_validate(content), kind="pixels")


def _bag(number: int, *, n: int, size: int = 24) -> Bag:
    pixels = np.random.default_rng(number).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    if number % 2:
        pixels[:2] //= 4
    return Bag(f"s{number}", f"c{number}", number % 2, pixels, np.zeros((n, 2), np.int64), size)


BAGS = [_bag(number, n=n) for number, n in enumerate((5, 40, 12, 33, 7, 32, 1, 20))]


@dataclass(frozen=True, eq=False)
class _Extra:
    """A hard bag that is made anew in each epoch, and a patch that is added to positive bags."""

    n: int = 9

    def draw(self, epoch: int) -> list[Bag]:
        return [_bag(100 + 2 * epoch, n=self.n)]

    def mix(self, bag: Bag, *, epoch: int) -> Bag:
        if bag.label == 0:
            return bag
        added = np.concatenate([bag.instances, _bag(50 + epoch, n=1).instances])
        return replace(bag, instances=added, coords=np.zeros((len(added), 2), np.int64))

    def fingerprint(self) -> str:
        return "extra"

    def within(self, slide_ids: set[str]) -> "_Extra":
        return self

    def cases(self) -> set[str]:
        return set()


def _trainings() -> list[Training]:
    """Four trainings with different bags, seeds and numbers of steps."""
    return [
        Training(BAGS, seed=0),
        Training(BAGS[:5], seed=1),
        Training(BAGS[2:], seed=2, extras=_Extra()),
        Training(BAGS[1:7], seed=0),
    ]


def _alone(training: Training, *, config: ResolvedModelConfig) -> tuple[BagClassifier, list[float]]:
    losses: list[float] = []
    network = fit(
        training.bags,
        config=config,
        seed=training.seed,
        device=CPU,
        extras=training.extras,
        start=training.start,
        on_epoch=lambda epoch, loss: losses.append(loss),
    )
    return network, losses


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"pooling": {"kind": "gated-attention"}},
        {"pooling": {"kind": "attention"}, "network": {"dropout": 0.0}},
        {"instance_loss": {"beta": 0.5}, "training": {"balance": "loss"}},
        {"training": {"balance": "sampler", "max_instances": 10, "augment": False}},
        {"training": {"select": "last"}},
    ],
)
def test_a_population_is_what_its_trainings_are_alone(sections: dict[str, dict[str, Any]]):
    config, trainings = _config(**sections), _trainings()
    population = fit_population(trainings, config=config, device=CPU)
    for position, training in enumerate(trainings):
        network, losses = _alone(training, config=config)
        np.testing.assert_allclose(population.losses[position], losses, rtol=0, atol=1e-4)
        found = population.networks[position].state_dict()
        for name, value in network.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=2e-3, msg=name)


def test_it_continues_from_another_network():
    config = _config()
    start, _ = _alone(Training(BAGS, seed=5), config=config)
    training = Training(BAGS[:4], seed=6, start=start)
    population = fit_population([training, Training(BAGS, seed=5)], config=config, device=CPU)
    np.testing.assert_allclose(population.losses[0], _alone(training, config=config)[1], rtol=0, atol=1e-4)


def test_each_step_is_reported_with_its_patches():
    seen: list[int] = []
    fit_population(
        [Training(BAGS, seed=0), Training(BAGS[:5], seed=1)],
        config=_config(),
        device=CPU,
        on_step=seen.append,
    )
    assert len(seen) == 3 * len(BAGS)
    assert sum(seen) == 3 * (sum(len(bag) for bag in BAGS) + sum(len(bag) for bag in BAGS[:5]))


def test_a_loss_of_nan_stops_the_population():
    config = _config(training={"lr": 1e30})
    with pytest.raises(TrainingError, match=r"training 1: the loss is .*lower training.lr"):
        fit_population([Training(BAGS, seed=0)], config=config, device=CPU)


def test_the_callers_random_numbers_go_on():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit_population([Training(BAGS[:4], seed=0)], config=_config(training={"epochs": 1}), device=CPU)
    assert torch.equal(torch.rand(2), expected)


def _features() -> Sequence[Bag]:
    return [Bag("s", "c", 0, np.zeros((3, 4), np.float32), np.zeros((3, 2), np.int64), 0)]


@pytest.mark.parametrize(
    ("bags", "sections"),
    [
        (_features(), {}),
        ([replace(BAGS[0], instance_labels=np.zeros(5, np.float32))], {}),
        ([replace(BAGS[0], instance_weights=np.ones(5, np.float32))], {}),
        (BAGS, {"pooling": {"kind": "mean"}}),
        (BAGS, {"pooling": {"kind": "linear-attention"}}),
        (BAGS, {"pooling": {"kind": "conjunctive"}}),
        (BAGS, {"pooling": {"kind": "topk"}}),
        (BAGS, {"pooling": {"mask_top": 5}}),
        (BAGS, {"pooling": {"smooth_steps": 1}}),
        (BAGS, {"rank_loss": {"weight": 0.5}}),
        (BAGS, {"bag_mix": {"n_parts": 4}}),
        (BAGS, {"teacher": {"mask_share": 0.1}}),
        (BAGS, {"training": {"bags_per_step": 2}}),
        (BAGS, {"training": {"select": "validation"}}),
        (BAGS, {"instance_loss": {"beta": 0.5, "hardest": 0.1}}),
    ],
)
def test_what_a_population_cannot_hold(bags: Sequence[Bag], sections: dict[str, dict[str, Any]]):
    assert not can_join_population(bags, config=_config(**sections))
    assert can_join_population(BAGS, config=_config())

"""Networks of many classes: each branch is a network of two classes on the same embedding."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.many_classes import EXCLUSIVE, ORDERED, class_bags
from tests.support.trainings import feature_bags, small_config

from hardmil.config.model import PoolingKind, ResolvedModelConfig
from hardmil.config.task import TaskConfig
from hardmil.device import Device
from hardmil.errors import BagError
from hardmil.mil.batches import pack
from hardmil.mil.inference import score_bags, score_together
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import class_weights, fit
from hardmil.mil.weights import load_network, save_network

pytestmark = pytest.mark.slow

CPU = Device("cpu", bfloat16=False)
KINDS: tuple[PoolingKind, ...] = (
    "adaptive-attention",
    "attention",
    "gated-attention",
    "linear-attention",
    "conjunctive",
    "mean",
    "max",
    "topk",
    "noisy-and",
    "quantile",
)


def _config(
    task: TaskConfig, *, pooling: dict[str, Any] | None = None, **training: Any
) -> ResolvedModelConfig:
    config = small_config(**training)
    changed = {"task": task, "pooling": config.pooling.model_copy(update=pooling or {})}
    return config.model_copy(update=changed)


def _one_branch(network: BagClassifier, number: int) -> BagClassifier:
    """A network of two classes with the weights of one branch."""
    config = network.config.model_copy(update={"task": TaskConfig()})
    alone = BagClassifier(config, instance_shape=network.instance_shape)
    state = network.state_dict()
    for name in ("classify.weight", "classify.bias", "attend.score.weight"):
        if name in state:
            rows = state[name]
            state[name] = rows[number : number + 1] if len(rows) > 1 else rows
    alone.load_state_dict(state)
    return alone.eval()


@pytest.mark.parametrize("attention", ["per-class", "shared"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", [EXCLUSIVE, ORDERED], ids=["exclusive", "ordered"])
def test_each_branch_is_a_network_of_two_classes(task: TaskConfig, kind: PoolingKind, attention: str):
    torch.manual_seed(0)
    config = _config(task, pooling={"kind": kind, "attention": attention})
    network = BagClassifier(config, instance_shape=(6,)).eval()
    batch = pack(class_bags(5))
    with torch.no_grad():
        found = network(batch)
        for number in range(task.n_branches):
            branch, alone = found.branch(number), _one_branch(network, number)(batch)
            for name in ("bag_logit", "attention_logit", "attention", "instance_logit", "weights"):
                expected = getattr(alone, name)
                if expected is None:
                    assert getattr(branch, name) is None
                else:
                    torch.testing.assert_close(getattr(branch, name), expected, msg=f"{name}, {number}")
    has_column = attention == "per-class" or network.attend is None
    assert found.attention.dim() == (2 if has_column else 1)


@pytest.mark.parametrize("task", [EXCLUSIVE, ORDERED], ids=["exclusive", "ordered"])
def test_training_finds_the_class_of_new_bags_and_the_instances_of_its_lesion(task: TaskConfig):
    bags = class_bags(60)
    network = fit(bags[:30], config=_config(task, epochs=30), device=CPU)
    scores = score_bags(network, bags[30:])
    called = [int(np.argmax(one.class_scores)) for one in scores]
    labels = [bag.label for bag in bags[30:]]
    assert np.mean(np.array(called) == labels) >= 0.9
    # The first two instances are those of the lesion.
    branches = [
        score.branches[task.branch_of(label)]
        for score, label in zip(scores, labels, strict=True)
        if label > 0
    ]
    strongest = [set(np.argsort(-one.instance_logit)[:2].tolist()) for one in branches]
    assert np.mean([one == {0, 1} for one in strongest]) >= 0.7


@pytest.mark.parametrize("more", [{"ordinal": True}, {"negative": "no"}], ids=["ordered", "negative"])
def test_two_classes_on_the_path_of_many_are_the_network_of_two_classes(more: dict[str, Any]):
    """One branch, with the same draws: the same scores up to rounding."""
    bags, as_many = feature_bags(), TaskConfig.model_validate({"names": ("no", "yes"), **more})
    expected = score_bags(fit(bags, config=small_config(), device=CPU), bags)
    found = score_bags(fit(bags, config=_config(as_many), device=CPU), bags)
    for one, other in zip(found, expected, strict=True):
        assert one.class_scores is not None
        assert one.class_scores[1] == pytest.approx(other.bag_score, rel=1e-5)
        np.testing.assert_allclose(one.attention, other.attention, rtol=1e-5)


def test_two_classes_as_exclusive_ones_rank_bags_alike():
    bags, as_many = feature_bags(40), TaskConfig(names=("no", "yes"))
    scores = score_bags(fit(bags, config=_config(as_many, epochs=20), device=CPU), bags)
    yes = np.array([one.class_scores[1] for one in scores if one.class_scores is not None])
    labels = np.array([bag.label for bag in bags])
    assert yes[labels == 1].min() > yes[labels == 0].max()


def test_several_networks_are_averaged_by_logit():
    bags = class_bags(12)
    networks = [fit(bags, config=_config(EXCLUSIVE), seed=seed, device=CPU) for seed in range(2)]
    together = score_together(networks, bags)
    for number, found in enumerate(together):
        of_each = [score_bags(network, bags)[number].class_scores for network in networks]
        product = np.prod([one for one in of_each if one is not None], axis=0) ** 0.5
        np.testing.assert_allclose(found.class_scores, product / product.sum(), rtol=1e-6)


def test_a_saved_network_of_many_classes_gives_the_same_scores(tmp_path):
    bags = class_bags(12)
    network = fit(bags, config=_config(ORDERED), device=CPU)
    save_network(tmp_path / "model.safetensors", network)
    again = load_network(tmp_path / "model.safetensors", device="cpu")
    for one, other in zip(score_bags(network, bags), score_bags(again, bags), strict=True):
        np.testing.assert_array_equal(one.class_scores, other.class_scores)


def test_classes_weigh_equally_in_a_balanced_loss():
    bags = [*class_bags(12), *(bag for bag in class_bags(12) if bag.label == 0)]
    weights = class_weights(bags, config=_config(EXCLUSIVE, balance="loss"))
    assert weights.tolist() == pytest.approx([16 / (3 * 8), 16 / (3 * 4), 16 / (3 * 4)])


def test_a_label_that_is_no_class_is_refused_with_its_slide():
    with pytest.raises(BagError, match=r"slide s2: label 2; expected 0 to 1 in training with 2 classes"):
        fit(class_bags(6), config=small_config(), device=CPU)

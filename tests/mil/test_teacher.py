from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.trainings import feature_bags, small_config, trained_weights

from hardmil.config.model import ResolvedModelConfig, TeacherConfig
from hardmil.config.task import TaskConfig
from hardmil.device import Device
from hardmil.errors import ConfigError
from hardmil.mil.batches import pack
from hardmil.mil.network import BagClassifier
from hardmil.mil.teacher import Teacher, draw_left_out, find_teacher

CPU = Device("cpu", bfloat16=False)
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def _config(*, kind: str = "adaptive-attention", **settings: Any) -> ResolvedModelConfig:
    teacher = TeacherConfig.model_validate({"mask_share": 0.2} | settings)
    config = small_config(dropout=0.0)
    pooling = config.pooling.model_copy(update={"kind": kind})
    return config.model_copy(update={"teacher": teacher, "pooling": pooling})


def _network(config: ResolvedModelConfig, *, seed: int = 0) -> BagClassifier:
    torch.manual_seed(seed)
    return BagClassifier(config, instance_shape=(4,))


def _teacher(network: BagClassifier) -> Teacher:
    found = find_teacher(network, device=CPU)
    assert found is not None
    return found


def _drawn(sizes: list[int], *, share: float, choice: float, seed: int = 0) -> list[list[bool]]:
    attention = torch.from_numpy(np.random.default_rng(sum(sizes)).random(sum(sizes)).astype(np.float32))
    torch.manual_seed(seed)
    mask = draw_left_out(attention, sizes=torch.tensor(sizes), share=share, choice=choice)
    return [part.tolist() for part in mask.split(sizes)]


@given(SIZES, st.integers(1, 9), st.integers(1, 10))
def test_masks_against_a_loop(sizes: list[int], tenths: int, choice: int):
    found = _drawn(sizes, share=tenths / 10, choice=choice / 10)
    attention = np.random.default_rng(sum(sizes)).random(sum(sizes)).astype(np.float32).tolist()
    torch.manual_seed(0)
    for size, mask in zip(sizes, found, strict=True):
        values, attention = attention[:size], attention[size:]
        n_left_out = min(-(-tenths * size // 10), size - 1)
        n_most = min(max(-(-tenths * size // choice), n_left_out), size)
        ranked = sorted(range(size), key=lambda j: -values[j])[:n_most]
        left_out = [ranked[i] for i in torch.randperm(n_most).tolist()[:n_left_out]]
        assert mask == [j in left_out for j in range(size)]


@pytest.mark.parametrize(("size", "n_left_out"), [(1, 0), (2, 1), (20, 1), (21, 2), (100, 5), (1000, 50)])
def test_how_many_are_left_out_by_default(size: int, n_left_out: int):
    (mask,) = _drawn([size], share=0.05, choice=0.5)
    assert sum(mask) == n_left_out


def test_the_teacher_chooses_by_its_own_attention_on_the_whole_bag():
    network, batch = _network(_config(mask_choice=1.0)), pack(feature_bags(3, size=20))
    teacher = _teacher(network)
    with torch.no_grad():
        expected = network.eval()(batch)
        torch.nn.init.normal_(next(network.attend.parameters()))  # pyright: ignore[reportOptionalMemberAccess]
        masked, target = teacher.masked(batch)
    assert masked.left_out is not None
    assert torch.equal(target, expected.vector)
    for attention, left_out in zip(
        expected.attention.split(batch.sizes.tolist()),
        masked.left_out.split(batch.sizes.tolist()),
        strict=True,
    ):
        assert attention[left_out].min() > attention[~left_out].max()
        assert int(left_out.sum()) == -(-len(attention) // 5)


@pytest.mark.parametrize("kind", ["adaptive-attention", "gated-attention", "conjunctive"])
def test_the_network_sees_the_bag_as_if_these_instances_were_not_in_it(kind: str):
    network = _network(_config(kind=kind)).train()
    (bag,) = feature_bags(1, size=20)
    masked, _ = _teacher(network).masked(pack([bag]))
    assert masked.left_out is not None
    with torch.no_grad():
        output, smaller = network(masked), network(pack([bag.take(np.flatnonzero(~masked.left_out.numpy()))]))
    assert output.bag_logit.item() == pytest.approx(smaller.bag_logit.item(), abs=1e-6)
    assert output.attention[masked.left_out].eq(0).all()


def test_the_consistency_loss_against_numpy():
    network, batch = _network(_config(consistency=0.3, temperature=0.5)), pack(feature_bags(3))
    output = network(batch)
    target = torch.randn(3, 8)
    loss = _teacher(network).disagreement(output, target=target)
    vector, wanted = output.vector.detach().double().numpy(), target.double().numpy() / 0.5
    wanted = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)
    logs = vector - np.log(np.exp(vector).sum(axis=1, keepdims=True))
    assert loss.item() == pytest.approx(-0.3 * (wanted * logs).sum(axis=1).mean(), rel=1e-5)
    loss.backward()
    assert network.embed.fc.weight.grad is not None  # pyright: ignore[reportAttributeAccessIssue]


def test_the_teacher_is_the_moving_average_of_the_network():
    network = _network(_config(momentum=0.75))
    teacher = _teacher(network)
    before = [value.clone() for value in network.parameters()]
    for parameter in network.parameters():
        parameter.data.add_(4.0)
    teacher.follow(network)
    for own, old in zip(teacher.network.parameters(), before, strict=True):
        torch.testing.assert_close(own, old + 1.0)
        assert not own.requires_grad


def test_a_training_with_a_teacher_follows_from_its_seed():
    trained = partial(trained_weights, feature_bags(12, size=12))

    first = trained(config=_config(), seed=3)
    torch.manual_seed(5)
    assert trained(config=_config(), seed=3) == first
    assert trained(config=_config(), seed=4) != first
    assert trained(config=_config(momentum=0.0), seed=3) != first
    assert trained(config=_config(consistency=0.0), seed=3) != first
    assert trained(config=small_config(dropout=0.0), seed=3) != first


@pytest.mark.parametrize(
    ("kind", "n_classes"),
    [("mean", 2), ("dsmil", 2), ("attention", 3)],
    ids=["mean", "dsmil", "three classes"],
)
def test_a_teacher_needs_attention_and_two_classes(kind: str, n_classes: int):
    config = _config(kind=kind)
    if n_classes == 3:
        config = config.model_copy(update={"task": TaskConfig(names=("a", "b", "c"))})
    with pytest.raises(ConfigError, match=rf"with {n_classes} classes and pooling.kind {kind}; expected two"):
        find_teacher(_network(config), device=CPU)

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardmil.config.model import (
    InstanceLossConfig,
    ModelConfig,
    RankLossConfig,
    ResolvedModelConfig,
    VerdictLossConfig,
    resolve_config,
)
from hardmil.config.task import TaskConfig
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch
from hardmil.mil.losses import instance_loss, training_loss, verdict_loss
from hardmil.mil.ranking import RankQueue

# Bags as (label, instance logits).
BAGS = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=12)),
    min_size=1,
    max_size=5,
)
Bags = list[tuple[int, list[float]]]


def _config(**losses: InstanceLossConfig | VerdictLossConfig | RankLossConfig) -> ResolvedModelConfig:
    return resolve_config(ModelConfig.model_validate(losses), kind="features")


def _batch(bags: Bags) -> tuple[PackedBatch, torch.Tensor]:
    logits = torch.tensor([value for _, values in bags for value in values])
    offsets = torch.tensor([0, *np.cumsum([len(values) for _, values in bags]).tolist()])
    labels = torch.tensor([float(label) for label, _ in bags])
    return PackedBatch(torch.zeros(len(logits), 1), offsets, labels), logits


def _output(bag_logit: list[float], instance_logit: torch.Tensor) -> BagOutput:
    same = torch.zeros_like(instance_logit)
    return BagOutput(torch.tensor(bag_logit), same, same, instance_logit, same)


def _softplus(t: float) -> float:
    return math.log1p(math.exp(t))


def _instance_loss(bags: Bags, *, tenths: int) -> float:
    total = 0.0
    for label, values in bags:
        if label == 0:
            k = max(1, -(-tenths * len(values) // 10))  # whole numbers: a tenth is no float
            total += np.mean([_softplus(v) for v in sorted(values, reverse=True)[:k]])
    return total / len(bags)


@given(BAGS, st.integers(1, 10))
def test_instance_loss_against_a_loop(bags: Bags, tenths: int):
    batch, logits = _batch(bags)
    found = instance_loss(logits, batch=batch, hardest=tenths / 10)
    assert found.item() == pytest.approx(_instance_loss(bags, tenths=tenths), rel=1e-5, abs=1e-7)


def test_only_the_hardest_of_negative_bags_enter():
    bags = [(0, [1.0, 5.0, 3.0, -2.0]), (1, [9.0, 9.0]), (0, [0.0])]
    batch, logits = _batch(bags)
    logits.requires_grad_()
    instance_loss(logits, batch=batch, hardest=0.5).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [False, True, True, False, False, False, True]


@pytest.mark.parametrize(("n", "percent"), [(100, 7), (100, 14), (50, 14), (25, 28)])
def test_a_share_that_is_a_whole_number_of_instances_is_that_number(n: int, percent: int):
    """0.07 * 100 is 7.000000000000001 in floating point; seven instances enter, not eight."""
    assert math.ceil(percent / 100 * n) > percent * n // 100
    batch, logits = _batch([(0, np.linspace(-2, 3, n).tolist())])
    logits.requires_grad_()
    instance_loss(logits, batch=batch, hardest=percent / 100).backward()
    assert logits.grad is not None
    assert int((logits.grad != 0).sum()) == percent * n // 100


def test_without_negative_bags_the_term_is_zero():
    batch, logits = _batch([(1, [4.0, 2.0]), (1, [1.0])])
    assert instance_loss(logits, batch=batch).item() == 0


@given(BAGS, st.data())
def test_training_loss_against_a_loop(bags: Bags, data: st.DataObject):
    numbers = st.floats(-6, 6, width=32)
    bag_logit = data.draw(st.lists(numbers, min_size=len(bags), max_size=len(bags)))
    weights = data.draw(st.tuples(st.floats(0.25, 4), st.floats(0.25, 4)))
    beta = data.draw(st.sampled_from([0.0, 0.5, 2.0]))
    batch, logits = _batch(bags)
    found = training_loss(
        _output(bag_logit, logits),
        batch=batch,
        config=_config(instance_loss=InstanceLossConfig(beta=beta, hardest=0.5)),
        class_weight=torch.tensor(weights),
    )
    expected = 0.0
    for (label, _), logit in zip(bags, bag_logit, strict=True):
        expected += weights[label] * _softplus(-logit if label == 1 else logit) / len(bags)
    expected += beta * _instance_loss(bags, tenths=5)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_step_of_two_bags_is_the_mean_of_two_steps():
    bags = [(0, [1.0, 5.0, 3.0]), (1, [2.0, -1.0])]
    config, ones = _config(instance_loss=InstanceLossConfig(beta=0.5)), torch.ones(2)

    def loss(chosen: Bags, bag_logit: list[float]) -> float:
        batch, logits = _batch(chosen)
        return training_loss(_output(bag_logit, logits), batch=batch, config=config, class_weight=ones).item()

    alone = (loss(bags[:1], [0.7]) + loss(bags[1:], [-0.2])) / 2
    assert loss(bags, [0.7, -0.2]) == pytest.approx(alone, rel=1e-6)


def test_instances_that_weigh_more_pull_the_mean_of_their_bag():
    bags = [(0, [1.0, 5.0, 3.0]), (1, [2.0, -1.0]), (0, [0.5])]
    batch, logits = _batch(bags)
    weighed = replace(batch, instance_weights=torch.tensor([1.0, 4.0, 1.0, 9.0, 9.0, 7.0]))
    first = (_softplus(1.0) + 4 * _softplus(5.0) + _softplus(3.0)) / 6
    found = instance_loss(logits, batch=weighed).item()
    assert found == pytest.approx((first + _softplus(0.5)) / 3, rel=1e-6)
    # the hardest two of three: 5.0 with weight 4, 3.0 with weight 1
    hardest = (4 * _softplus(5.0) + _softplus(3.0)) / 5
    found = instance_loss(logits, batch=weighed, hardest=0.6).item()
    assert found == pytest.approx((hardest + _softplus(0.5)) / 3, rel=1e-6)


@given(BAGS, st.data())
def test_verdict_loss_against_a_loop(bags: Bags, data: st.DataObject):
    batch, logits = _batch(bags)
    n = len(logits)
    verdicts = data.draw(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=n, max_size=n))
    judged = replace(batch, instance_labels=torch.tensor(verdicts))
    full_at = data.draw(st.integers(1, 6))
    expected, first = 0.0, 0
    for _, values in bags:
        mine = verdicts[first : first + len(values)]
        first += len(values)
        losses = [_softplus(-s if v == 1 else s) for s, v in zip(values, mine, strict=True) if v == v]
        expected += sum(losses) / max(len(losses), full_at) / len(bags)
    assert verdict_loss(logits, batch=judged, full_at=full_at).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_verdicts_join_the_loss_with_their_weight_and_without_any_they_are_nothing():
    batch, logits = _batch([(1, [2.0, -1.0])])
    output, ones = _output([0.3], logits), torch.ones(2)
    judged = replace(batch, instance_labels=torch.tensor([0.0, math.nan]))
    config = _config(verdict_loss=VerdictLossConfig(rho=3.0))
    without = training_loss(output, batch=batch, config=config, class_weight=ones).item()
    found = training_loss(output, batch=judged, config=config, class_weight=ones).item()
    assert without == pytest.approx(_softplus(-0.3), rel=1e-6)
    assert found == pytest.approx(without + 3 * _softplus(2.0), rel=1e-6)
    few = _config(verdict_loss=VerdictLossConfig(rho=3.0, full_at=10))
    found = training_loss(output, batch=judged, config=few, class_weight=ones).item()
    assert found == pytest.approx(without + 0.3 * _softplus(2.0), rel=1e-6)


def test_the_rank_loss_joins_with_its_weight_where_there_are_bags_before():
    queue, config = RankQueue(4), _config(rank_loss=RankLossConfig(weight=3.0, margin=2.0))
    batch, logits = _batch([(0, [1.0, -1.0])])
    queue.add(logits, batch=batch)
    batch, logits = _batch([(1, [2.0, -1.0])])
    output, ones = _output([0.3], logits), torch.ones(2)
    without = training_loss(output, batch=batch, config=config, class_weight=ones).item()
    found = training_loss(output, batch=batch, config=config, class_weight=ones, queue=queue).item()
    assert without == pytest.approx(_softplus(-0.3), rel=1e-6)
    assert found == pytest.approx(without + 3 * (2.0 - (2.0 - 1.0)), rel=1e-6)


THREE = ("normal", "a", "b")
TASKS = (
    TaskConfig(names=THREE),
    TaskConfig(names=THREE, negative="normal"),
    TaskConfig(names=THREE, ordinal=True),
)


def _bag_loss(logits: list[float], label: int, *, task: TaskConfig) -> float:
    if task.negative == "normal":
        logits = [0.0, *logits]
    if not task.ordinal:
        return math.log(sum(math.exp(t) for t in logits)) - logits[label]
    return sum(_softplus(-t) if label > step else _softplus(t) for step, t in enumerate(logits))


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_of_many_classes_is_that_of_a_loop_over_bags_and_branches(task: TaskConfig):
    rng = np.random.default_rng(0)
    sizes, labels = (2, 3, 1, 4), (0, 1, 2, 1)
    bag_logits = rng.normal(size=(4, task.n_branches)).astype(np.float32)
    logits = [rng.normal(size=(n, task.n_branches)).astype(np.float32) for n in sizes]
    verdicts = [np.full(logit.shape, np.nan, np.float32) for logit in logits]
    verdicts[1][0] = np.arange(task.n_branches) == 0
    weights = [rng.uniform(1, 3, size=logit.shape).astype(np.float32) for logit in logits]
    class_weight = [0.5, 1.0, 2.0]

    expected = 0.0
    for b, label in enumerate(labels):
        expected += class_weight[label] * _bag_loss(bag_logits[b].tolist(), label, task=task) / 4
        for branch in range(task.n_branches):
            if task.is_free(label, branch=branch):
                w = weights[b][:, branch]
                softplus = np.array([_softplus(float(t)) for t in logits[b][:, branch]])
                expected += 0.5 * float((w * softplus).sum() / w.sum()) / 4 / task.n_branches
    for branch in range(task.n_branches):
        sign = -1 if branch == 0 else 1
        expected += 0.7 * _softplus(sign * float(logits[1][0, branch])) / 4 / task.n_branches

    batch = PackedBatch(
        torch.zeros(10, 1),
        torch.tensor([0, *np.cumsum(sizes).tolist()]),
        torch.tensor([float(label) for label in labels]),
        instance_labels=torch.from_numpy(np.concatenate(verdicts)),
        instance_weights=torch.from_numpy(np.concatenate(weights)),
    )
    same = torch.zeros(10, task.n_branches)
    output = BagOutput(
        torch.from_numpy(bag_logits), same, same, torch.from_numpy(np.concatenate(logits)), same
    )
    config = _config(
        instance_loss=InstanceLossConfig(beta=0.5), verdict_loss=VerdictLossConfig(rho=0.7)
    ).model_copy(update={"task": task})
    found = training_loss(output, batch=batch, config=config, class_weight=torch.tensor(class_weight))
    assert found.item() == pytest.approx(expected, rel=1e-5)

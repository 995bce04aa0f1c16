import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardmil.mil.batches import PackedBatch
from hardmil.mil.ranking import RankQueue, rank_loss

# Bags as (label, instance logits), and steps of bags.
BAG = st.tuples(st.integers(0, 1), st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=6))
Bags = list[tuple[int, list[float]]]
STEPS = st.lists(st.lists(BAG, min_size=1, max_size=3), min_size=1, max_size=8)


def _batch(bags: Bags) -> tuple[torch.Tensor, PackedBatch]:
    logits = torch.tensor([value for _, values in bags for value in values])
    offsets = torch.tensor([0, *np.cumsum([len(values) for _, values in bags]).tolist()])
    labels = torch.tensor([float(label) for label, _ in bags])
    return logits, PackedBatch(torch.zeros(len(logits), 1), offsets, labels)


@given(STEPS, st.integers(1, 4), st.floats(0, 3))
def test_losses_of_all_steps_against_a_loop(steps: list[Bags], length: int, margin: float):
    queue, seen = RankQueue(length), list[tuple[int, float]]()
    for bags in steps:
        logits, batch = _batch(bags)
        expected = 0.0
        for label, values in bags:
            others = [value for other, value in seen if other != label][-length:]
            for other in others:
                gap = max(values) - other if label == 1 else other - max(values)
                expected += max(0.0, margin - gap) / len(others) / len(bags)
        found = rank_loss(logits, batch=batch, queue=queue, margin=margin).item()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
        queue.add(logits, batch=batch)
        seen += [(label, max(values)) for label, values in bags]


def test_the_queue_holds_the_last_bags_of_each_label():
    queue = RankQueue(2)
    assert queue.of_label(0) == queue.of_label(1) == []
    for bags in ([(0, [1.0, 4.0]), (1, [7.0])], [(0, [-2.0])], [(0, [5.0, 6.0]), (0, [3.0])]):
        logits, batch = _batch(bags)
        queue.add(logits, batch=batch)
    assert [logit.item() for logit in queue.of_label(0)] == [6, 3]
    assert [logit.item() for logit in queue.of_label(1)] == [7]


def test_only_the_strongest_instance_of_the_bag_itself_is_moved():
    queue = RankQueue(3)
    before, batch = _batch([(0, [1.0, 2.0])])
    before.requires_grad_()
    queue.add(before, batch=batch)
    logits, batch = _batch([(1, [0.5, 2.5, -3.0]), (0, [9.0])])
    logits.requires_grad_()
    rank_loss(logits, batch=batch, queue=queue, margin=1.0).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [0, -0.5, 0, 0]
    assert before.grad is None


def test_bags_that_are_a_margin_apart_cost_nothing():
    queue = RankQueue(3)
    logits, batch = _batch([(0, [1.0]), (0, [-4.0])])
    queue.add(logits, batch=batch)
    for value, loss in ((2.0, 0.0), (1.5, 0.25), (-4.0, (6.0 + 1.0) / 2)):
        logits, batch = _batch([(1, [value])])
        assert rank_loss(logits, batch=batch, queue=queue, margin=1.0).item() == pytest.approx(loss)

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.trainings import trained_weights

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.mil.masking import draw_masked

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def _logits(sizes: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(sizes)).normal(size=sum(sizes)).astype(np.float32))


def _drawn(sizes: list[int], *, top: int, share: float, seed: int = 0) -> list[list[bool]]:
    torch.manual_seed(seed)
    mask = draw_masked(_logits(sizes), sizes=torch.tensor(sizes), top=top, share=share)
    return [part.tolist() for part in mask.split(sizes)]


@given(SIZES, st.integers(1, 12), st.integers(0, 10))
def test_masks_against_a_loop(sizes: list[int], top: int, tenths: int):
    found = _drawn(sizes, top=top, share=tenths / 10)
    torch.manual_seed(0)
    first = 0
    for size, mask in zip(sizes, found, strict=True):
        logits = _logits(sizes)[first : first + size].tolist()
        ranked = sorted(range(size), key=lambda j: -logits[j])[: min(top, size // 4)]
        left_out = [ranked[i] for i in torch.randperm(len(ranked)).tolist()[: tenths * len(ranked) // 10]]
        assert mask == [j in left_out for j in range(size)]
        first += size


@given(SIZES, st.integers(1, 100))
def test_three_quarters_of_a_bag_always_stay(sizes: list[int], top: int):
    for mask in _drawn(sizes, top=top, share=1.0):
        assert sum(mask) == min(top, len(mask) // 4) < len(mask)


@pytest.mark.parametrize(("size", "n_masked"), [(1, 0), (7, 0), (8, 1), (20, 3), (40, 6), (500, 6)])
def test_how_many_are_left_out_by_default(size: int, n_masked: int):
    (mask,) = _drawn([size], top=10, share=0.6)
    assert sum(mask) == n_masked


def test_a_share_that_is_a_whole_number_of_instances_is_that_number():
    """0.29 * 100 is 28.999999999999996 in floating point."""
    assert int(0.29 * 100) == 28
    assert sum(_drawn([400], top=100, share=0.29)[0]) == 29


def test_each_of_the_most_attended_is_left_out_equally_often():
    logits = _logits([60])
    counts = sum(np.array(_drawn([60], top=10, share=0.6, seed=seed)[0], dtype=int) for seed in range(500))
    order = np.argsort(-logits.numpy())
    assert (counts[order[10:]] == 0).all()
    np.testing.assert_allclose(counts[order[:10]] / 500, 0.6, atol=0.08)


@pytest.mark.parametrize("kind", ["adaptive-attention", "conjunctive"])
def test_what_is_left_out_in_training_follows_from_the_seed(kind: str):
    rng = np.random.default_rng(0)
    bags: list[Bag] = []
    for i in range(16):
        features = rng.normal(2, 3, size=(20 + i % 3, 4)).astype(np.float32)
        features[:2, 0] += 9 * (i % 2)
        bags.append(Bag(f"s{i}", f"c{i}", i % 2, features, np.zeros((len(features), 2), np.int64), 0))
    content: dict[str, Any] = {
        "network": {"embedding_dim": 8, "dropout": 0.0},
        "pooling": {"attention_dim": 4},
        "training": {"epochs": 3, "lr": 0.02},
    }
    plain = resolve_config(ModelConfig.model_validate(content), kind="features")

    def trained(*, seed: int, mask_top: int = 4) -> dict[str, list[Any]]:
        pooling = plain.pooling.model_copy(update={"kind": kind, "mask_top": mask_top})
        config = plain.model_copy(update={"pooling": pooling})
        return trained_weights(bags, config=config, seed=seed)

    torch.manual_seed(1)
    first = trained(seed=3)
    torch.manual_seed(2)
    assert trained(seed=3) == first
    assert trained(seed=4) != first
    assert trained(seed=3, mask_top=0) != first

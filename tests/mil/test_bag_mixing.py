from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.trainings import feature_bags, small_config, trained_weights

from hardmil.bags.bag import Bag
from hardmil.config.model import BagMixConfig, RankLossConfig, ResolvedModelConfig
from hardmil.config.task import TaskConfig
from hardmil.device import Device
from hardmil.errors import ConfigError
from hardmil.mil.bag_mixing import BagMixer, divided, find_mixer
from hardmil.mil.steps import steps_of_epoch

CPU = Device("cpu", bfloat16=False)


def _config(**settings: Any) -> ResolvedModelConfig:
    mix = BagMixConfig.model_validate({"n_parts": 6, "n_phenotypes": 3} | settings)
    return small_config().model_copy(update={"bag_mix": mix})


def _mixer(bags: list[Bag], **settings: Any) -> BagMixer:
    found = find_mixer(bags, config=_config(**settings), seed=0)
    assert found is not None
    return found


def _bag(name: str, label: int, *, n: int, value: float) -> Bag:
    """All instances have the same features, so each one tells its bag."""
    coords = np.stack([np.arange(n), np.arange(n)], axis=1)
    return Bag(name, name, label, np.full((n, 3), value, np.float32), coords, 8)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 8), st.integers(0, 5))
def test_each_cluster_is_spread_evenly_over_all_pseudo_bags(n: int, n_parts: int, n_clusters: int, seed: int):
    """Clusters are planted far apart, so that K-means finds them."""
    planted = np.arange(n) % n_clusters
    features = (1000 * np.eye(n_clusters)[planted]).astype(np.float32)
    bag = Bag("s", "c", 0, features, np.zeros((n, 2), np.int64), 0)
    parts = divided(bag, config=BagMixConfig(n_parts=n_parts, n_phenotypes=n_clusters), seed=seed)
    assert set(parts.tolist()) <= set(range(n_parts))
    for cluster in range(n_clusters):
        counts = np.bincount(parts[planted == cluster], minlength=n_parts)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(parts, minlength=n_parts)
    assert sizes.max() - sizes.min() <= 1


def test_pixels_are_divided_by_their_colours():
    colours = np.repeat([20, 230], 12)
    pixels = np.broadcast_to(colours[:, None, None, None], (24, 6, 6, 3)).astype(np.uint8)
    bag = Bag("s", "c", 0, pixels, np.zeros((24, 2), np.int64), 0)
    parts = divided(bag, config=BagMixConfig(n_parts=4, n_phenotypes=2), seed=3)
    for colour in (20, 230):
        assert np.bincount(parts[colours == colour]).tolist() == [3, 3, 3, 3]


def test_the_label_of_a_mixed_bag_is_the_share_of_its_pseudo_bags():
    positive, negative = _bag("p", 1, n=60, value=1.0), _bag("n", 0, n=60, value=0.0)
    mixer, generator = _mixer([positive, negative], chance=1.0), torch.Generator().manual_seed(0)
    seen = set[float]()
    for _ in range(60):
        bag, label = mixer.mix(positive, negative, generator=generator)
        assert label == pytest.approx(bag.instances[:, 0].mean())
        assert len(bag) == 60
        assert bag.label == int(label > 0)
        seen.add(round(6 * label))
    assert seen == set(range(7))


def test_without_a_second_bag_a_part_of_one_keeps_its_label():
    positive, negative = _bag("p", 1, n=60, value=1.0), _bag("n", 0, n=60, value=0.0)
    mixer, generator = _mixer([positive, negative], chance=0.0), torch.Generator().manual_seed(0)
    found = [mixer.mix(positive, negative, generator=generator) for _ in range(40)]
    assert all((bag.instances == label).all() for bag, label in found)
    assert {len(bag) for bag, _ in found} == {10, 20, 30, 40, 50, 60}
    assert {label for _, label in found} == {0.0, 1.0}, "no pseudo-bag of the first: all of the second"


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_mixed_bag_is_never_empty(n: int, n_other: int, seed: int):
    bags = [_bag("p", 1, n=n, value=1.0), _bag("n", 0, n=n_other, value=0.0)]
    mixer, generator = _mixer(bags, n_parts=30), torch.Generator().manual_seed(seed)
    bag, label = mixer.mix(*bags, generator=generator)
    assert len(bag) >= 1
    assert 0 <= label <= 1


def test_what_is_known_of_instances_stays_with_them():
    first, second = _bag("p", 1, n=30, value=1.0), _bag("n", 0, n=30, value=0.0)
    labels = np.where(np.arange(30) < 9, 1.0, np.nan).astype(np.float32)
    first = replace(first, instance_labels=labels, weight=3.0)
    second = replace(second, instance_weights=np.full(30, 5.0, np.float32))
    mixer, generator = _mixer([first, second], chance=1.0), torch.Generator().manual_seed(1)
    bag, _ = next(
        found
        for found in iter(lambda: mixer.mix(first, second, generator=generator), None)
        if 0 < found[0].instances.mean() < 1
    )
    is_first = bag.instances[:, 0] == 1
    assert bag.instance_labels is not None
    assert bag.instance_weights is not None
    assert bag.instance_slides is not None
    np.testing.assert_array_equal(bag.instance_labels == 1, is_first & (bag.coords[:, 0] < 9))
    np.testing.assert_array_equal(bag.instance_weights, np.where(is_first, 1.0, 5.0))
    assert len(set(bag.instance_slides[is_first])) == len(set(bag.instance_slides[~is_first])) == 1
    assert len(set(bag.instance_slides)) == 2, "patches of two slides are not adjacent"
    assert bag.weight == 2.0


def test_the_steps_of_an_epoch_have_mixed_bags_and_their_labels():
    bags = feature_bags(8)
    mixer, config = _mixer(bags, chance=1.0), _config()
    steps = list(
        steps_of_epoch(bags, mix=None, config=config, generator=torch.Generator().manual_seed(2), mixer=mixer)
    )
    packed = [step.packed(device="cpu") for step in steps]
    assert [batch.labels.tolist() for batch in packed] == [pytest.approx(step.labels) for step in steps]
    assert any(0 < float(batch.labels) < 1 for batch in packed)


def test_a_training_with_mixed_bags_follows_from_its_seed():
    trained = partial(trained_weights, feature_bags(12, size=12))

    first = trained(config=_config(), seed=3)
    torch.manual_seed(5)
    assert trained(config=_config(), seed=3) == first
    assert trained(config=_config(), seed=4) != first
    assert trained(config=small_config(), seed=3) != first


@pytest.mark.parametrize(
    "changed",
    [
        {"task": TaskConfig(names=("a", "b", "c"))},
        {"rank_loss": RankLossConfig(weight=0.5)},
    ],
    ids=["three classes", "rank loss"],
)
def test_labels_between_two_classes_need_a_loss_that_takes_them(changed: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"bag_mix.n_parts: 6.*expected two classes and no rank loss"):
        find_mixer(feature_bags(4), config=_config().model_copy(update=changed), seed=0)

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.mining.hard_bags import (
    HardBag,
    HardBags,
    clustered_bags,
    hard_bag_sizes,
    instance_probabilities,
    random_bags,
    single_bag,
)
from hardmil.mining.hard_instances import HardInstance

SIZES = np.array([40, 50, 70, 55, 48])


def _instance(slide: int, instance: int, *, cluster: int = -1) -> HardInstance:
    return HardInstance(
        1, f"s{slide}", f"c{slide}", instance, instance * 10, instance * 20, 8, 0.5, 0.9, cluster, "train"
    )


def _pool(n: int) -> list[HardInstance]:
    """Instances of slides 0, 1, 2 in turn, clusters of 1, 2, 3, ... members."""
    clusters = np.repeat(np.arange(n), np.arange(1, n + 1))[:n]
    return [_instance(i % 3, i, cluster=int(c)) for i, c in enumerate(clusters)]


def _clusters(pool: Sequence[HardInstance]) -> np.ndarray:
    return np.array([one.cluster for one in pool])


def _drawn(bags: Sequence[HardBag]) -> list[int]:
    """Position in the pool (its instance number) of everything drawn."""
    return [instance for bag in bags for _, instance in bag.instances]


def _counts(numbers: Sequence[int], n: int) -> np.ndarray:
    return np.bincount(numbers, minlength=n)


def _many(pool: Sequence[HardInstance], *, seed: int = 0, n_bags: int = 300, **options: Any) -> list[HardBag]:
    rng = np.random.default_rng(seed)
    return clustered_bags(
        pool, clusters=_clusters(pool), n_bags=n_bags, training_sizes=SIZES, rng=rng, **options
    )


def test_the_single_bag_is_the_whole_pool_once():
    pool = _pool(7)
    bag = single_bag(pool)
    assert bag.instances == tuple((f"s{i % 3}", i) for i in range(7))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.integers(0, 1000))
def test_sizes_follow_the_training_bags(sizes: list[int], seed: int):
    given_sizes = np.array(sizes)
    found = hard_bag_sizes(given_sizes, n_bags=6, rng=np.random.default_rng(seed))
    rng, mean = np.random.default_rng(seed), sum(sizes) / len(sizes)
    std = (sum((size - mean) ** 2 for size in sizes) / len(sizes)) ** 0.5
    expected = [min(max(round(x), min(sizes)), max(sizes)) for x in rng.normal(mean, std, 6)]
    assert np.abs(found - expected).max() <= 1  # std summed in another order may round to the next
    assert np.mean(found != expected) <= 0.2
    assert found.min() >= min(sizes)
    assert found.max() <= max(sizes)


def test_sizes_have_the_mean_and_spread_of_the_training_bags():
    sizes = np.concatenate([np.random.default_rng(1).normal(100, 10, 500).astype(int), [20, 180]])
    found = hard_bag_sizes(sizes, n_bags=4000, rng=np.random.default_rng(0))
    assert found.mean() == pytest.approx(sizes.mean(), abs=1)
    assert found.std() == pytest.approx(sizes.std(), rel=0.05)


def test_random_bags_draw_each_hard_instance_as_often():
    pool = _pool(12)
    bags = random_bags(pool, n_bags=300, training_sizes=SIZES, rng=np.random.default_rng(0))
    assert len(bags) == 300
    assert len({bag.name for bag in bags}) == 300
    assert {len(bag.instances) for bag in bags} <= set(range(40, 71))
    assert len({len(bag.instances) for bag in bags}) > 20
    assert chisquare(_counts(_drawn(bags), 12)).pvalue > 1e-3


def test_drawn_pairs_are_those_of_the_pool():
    pool = _pool(12)
    known = {one.key for one in pool}
    bags = random_bags(pool, n_bags=3, training_sizes=SIZES, rng=np.random.default_rng(0))
    assert {pair for bag in bags for pair in bag.instances} <= known


def _two_steps(clusters: np.ndarray, *, n: int, rng: np.random.Generator) -> list[int]:
    """FMB as the paper words it: pick cluster j with probability N_j / sum N, then an instance of it."""
    names, counts = np.unique(clusters, return_counts=True)
    drawn: list[int] = []
    for _ in range(n):
        cluster = rng.choice(names, p=counts / counts.sum())
        drawn.append(int(rng.choice(np.flatnonzero(clusters == cluster))))
    return drawn


def test_clusters_picked_by_size_give_each_instance_the_same_chance_as_the_papers_two_steps():
    pool = _pool(12)
    one_step = _counts(_drawn(_many(pool)), 12)
    two_steps = _counts(_two_steps(_clusters(pool), n=12_000, rng=np.random.default_rng(1)), 12)
    assert chisquare(one_step).pvalue > 1e-3
    assert chisquare(two_steps).pvalue > 1e-3
    assert chi2_contingency(np.stack([one_step, two_steps])).pvalue > 1e-3


def test_clusters_picked_equally():
    pool = _pool(12)
    clusters = _clusters(pool)  # of 1, 2, 3, 4 and 2 instances
    drawn = _drawn(_many(pool, cluster_weights="equal"))
    assert chisquare(_counts(clusters[drawn].tolist(), 5)).pvalue > 1e-3
    expected = [len(drawn) / 5 / np.sum(clusters == cluster) for cluster in clusters]
    assert chisquare(_counts(drawn, 12), expected).pvalue > 1e-3


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=20), st.sampled_from(["size", "equal"]))
def test_chances_of_instances_against_a_loop(drawn: list[int], weights: Any):
    clusters = np.array(drawn)
    found = instance_probabilities(clusters, cluster_weights=weights)
    names = sorted(set(drawn))
    for cluster, chance in zip(drawn, found, strict=True):
        of_cluster = 1 / len(names) if weights == "equal" else drawn.count(cluster) / len(drawn)
        assert chance == pytest.approx(of_cluster / drawn.count(cluster))
    assert found.sum() == pytest.approx(1)


def _quotas(counts: list[int], *, n: int) -> list[int]:
    """Largest remainder, in whole numbers; ties to the first."""
    total = sum(counts)
    quotas = [n * count // total for count in counts]
    order = sorted(range(len(counts)), key=lambda j: (-(n * counts[j] % total), j))
    for j in order[: n - sum(quotas)]:
        quotas[j] += 1
    return quotas


@settings(max_examples=50)
@given(st.integers(1, 25), st.integers(0, 1000), st.booleans())
def test_stratified_bags_hold_each_clusters_quota(n: int, seed: int, replacement: bool):
    pool = _pool(n)
    clusters = _clusters(pool)
    counts = np.bincount(clusters).tolist()
    bags = _many(pool, seed=seed, n_bags=3, cluster_weights="stratified", replacement=replacement)
    for bag in bags:
        drawn = _drawn([bag])
        found = _counts(clusters[drawn].tolist(), len(counts)).tolist()
        assert abs(np.array(found) - len(drawn) * np.array(counts) / n).max() < 1
        assert found == _quotas(counts, n=len(drawn))
        if not replacement:
            assert len(set(drawn)) == len(drawn)


def test_stratified_quota_by_hand():
    pool = [_instance(0, i, cluster=int(i >= 5) + int(i >= 8)) for i in range(10)]  # clusters of 5, 3, 2
    sizes = np.array([7])
    for seed in range(5):
        bag = clustered_bags(
            pool,
            clusters=_clusters(pool),
            n_bags=1,
            training_sizes=sizes,
            rng=np.random.default_rng(seed),
            cluster_weights="stratified",
        )[0]
        # 3.5, 2.1, 1.4: the one left over goes to the first
        assert _counts(_clusters(pool)[_drawn([bag])].tolist(), 3).tolist() == [4, 2, 1]


@pytest.mark.parametrize("weights", ["size", "equal", "stratified"])
def test_without_replacement_no_instance_comes_twice(weights: Any):
    for n in (5, 60):
        for bag in _many(_pool(n), n_bags=20, cluster_weights=weights, replacement=False):
            drawn = _drawn([bag])
            assert len(set(drawn)) == len(drawn)
            assert len(drawn) <= n
            assert n > 5 or len(drawn) == 5


def _bags() -> dict[str, Bag]:
    def bag(slide: int) -> Bag:
        n = 12 + slide
        features = np.stack([np.full(n, slide), np.arange(n)], axis=1).astype(np.float32)
        coords = np.stack([np.arange(n) + 100 * slide, np.arange(n)], axis=1)
        return Bag(f"s{slide}", f"c{slide}", 0, features, coords, 8)

    return {f"s{slide}": bag(slide) for slide in range(4)}


def test_a_hard_bag_gathers_its_instances():
    bag = HardBag("hard-bag-3", (("s2", 5), ("s0", 1), ("s2", 5))).gather(_bags())
    assert (bag.slide_id, bag.label, bag.size_level0_px) == ("hard-bag-3", 0, 8)
    assert bag.instances.tolist() == [[2, 5], [0, 1], [2, 5]]
    assert bag.coords.tolist() == [[205, 5], [1, 1], [205, 5]]


def test_patches_of_a_hard_bag_are_adjacent_within_their_slide_only():
    at_origin = {name: replace(bag, coords=bag.coords - bag.coords[0]) for name, bag in _bags().items()}
    bag = HardBag("hard-bag-0", (("s2", 5), ("s0", 5), ("s2", 6), ("s1", 6), ("s0", 9))).gather(at_origin)
    assert sorted(map(tuple, bag.neighbours.T.tolist())) == [(0, 2), (1, 4), (2, 0), (4, 1)]


def _hard_bags(**settings: Any) -> HardBags:
    config = MiningConfig.model_validate({"use": "fmb"} | settings)
    return HardBags(_pool(12), _bags(), 3, config, seed=5)


@pytest.mark.parametrize("use", ["mb", "fmb"])
def test_bags_are_drawn_once_or_each_epoch(use: str):
    once, each_epoch = _hard_bags(use=use), _hard_bags(use=use, redraw="epoch")
    assert once.plan(0) == once.plan(1) == once.plan(7)
    assert each_epoch.plan(0) == once.plan(0)
    assert each_epoch.plan(0) != each_epoch.plan(1)
    assert each_epoch.plan(1) == each_epoch.plan(1)
    assert len(each_epoch.plan(1)) == 3


def test_each_use_makes_its_bags():
    assert _hard_bags(use="sb").plan(0) == [single_bag(_pool(12))]
    rng, sizes = np.random.default_rng([5, 0]), np.array([12, 13, 14, 15])
    pool = _pool(12)
    assert _hard_bags(use="mb").plan(0) == random_bags(pool, n_bags=3, training_sizes=sizes, rng=rng)
    rng = np.random.default_rng([5, 0])
    assert _hard_bags(use="mb", replacement=False).plan(0) == random_bags(
        pool, n_bags=3, training_sizes=sizes, rng=rng, replacement=False
    )
    rng = np.random.default_rng([5, 0])
    assert _hard_bags(use="fmb", cluster_weights="stratified", replacement=False).plan(0) == clustered_bags(
        pool,
        clusters=_clusters(pool),
        n_bags=3,
        training_sizes=sizes,
        rng=rng,
        cluster_weights="stratified",
        replacement=False,
    )


def test_drawn_bags_are_the_plan_with_its_instances():
    hard = _hard_bags()
    for plan, bag in zip(hard.plan(0), hard.draw(0), strict=True):
        assert [(f"s{int(slide)}", int(j)) for slide, j in bag.instances] == list(plan.instances)


def test_within_keeps_the_given_slides():
    found = _hard_bags().within({"s1", "s3"})
    assert found is not None
    assert {one.slide_id for one in found.pool} == {"s1"}
    assert len(found.pool) == 4
    assert set(found.bags) == {"s1", "s3"}
    assert {slide for bag in found.plan(0) for slide, _ in bag.instances} == {"s1"}
    assert _hard_bags().within({"s3"}) is None


def test_fingerprint_changes_with_all_that_is_drawn_from():
    hard = _hard_bags()
    assert hard.fingerprint() == _hard_bags().fingerprint()
    other = replace(hard.pool[0], cluster=3)
    changed = [
        replace(hard, pool=hard.pool[1:]),
        replace(hard, pool=[other, *hard.pool[1:]]),
        replace(hard, n_bags=4),
        replace(hard, config=MiningConfig(use="mb")),
        replace(hard, seed=6),
    ]
    assert len({hard.fingerprint(), *(one.fingerprint() for one in changed)}) == 6

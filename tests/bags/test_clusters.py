from typing import Any

import numpy as np
import pytest
import sklearn.cluster

from hardmil.bags import clusters
from hardmil.bags.clusters import cluster_instances


def test_planted_clusters_are_found():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [5, 30, 12])
    features = (10 * np.eye(3)[truth] + rng.normal(size=(47, 3))).astype(np.float32)
    found = cluster_instances(features, n_clusters=3, seed=0)
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 3
    np.testing.assert_array_equal(found, cluster_instances(features, n_clusters=3, seed=0))


def test_no_more_clusters_than_different_instances():
    features = np.repeat(np.array([[0, 1], [5, 2]], np.float32), 4, axis=0)
    assert len(set(cluster_instances(features, n_clusters=4, seed=0).tolist())) == 2
    assert cluster_instances(features[:4], n_clusters=4, seed=0).tolist() == [0, 0, 0, 0]
    assert cluster_instances(features[:1], n_clusters=4, seed=0).tolist() == [0]


def test_large_pools_and_large_seeds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clusters, "LARGE_POOL", 10)
    truth = np.repeat([0, 1], 20)
    features = (20 * truth[:, None] + np.random.default_rng(0).normal(size=(40, 2))).astype(np.float32)
    found = cluster_instances(features, n_clusters=2, seed=20_240_101 * 1_000_000)
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 2


@pytest.mark.parametrize("large_pool", [clusters.LARGE_POOL, 10], ids=["whole", "mini-batches"])
def test_clusters_are_drawn_by_the_seed(large_pool: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clusters, "LARGE_POOL", large_pool)
    features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)  # no clusters to be found
    first, again, other, wrapped = (
        cluster_instances(features, n_clusters=8, seed=seed).tolist() for seed in (5, 5, 6, 5 + 2**32)
    )
    assert first == again == wrapped
    assert first != other


def _noted(kind: Any, used: list[tuple[str, int]]) -> Any:
    """The same class; each use of it is noted, and how often it starts."""

    def make(**options: Any) -> Any:
        used.append((kind.__name__, options["n_init"]))
        return kind(**options)

    return make


@pytest.mark.parametrize(("n", "kind"), [(9, "KMeans"), (10, "KMeans"), (11, "MiniBatchKMeans")])
def test_only_pools_above_the_limit_are_clustered_in_mini_batches(
    n: int, kind: str, monkeypatch: pytest.MonkeyPatch
):
    used: list[tuple[str, int]] = []
    for one in (sklearn.cluster.KMeans, sklearn.cluster.MiniBatchKMeans):
        monkeypatch.setattr(sklearn.cluster, one.__name__, _noted(one, used))
    monkeypatch.setattr(clusters, "LARGE_POOL", 10)
    features = np.arange(2 * n).reshape(n, 2).astype(np.float32)
    assert len(set(cluster_instances(features, n_clusters=3, seed=0).tolist())) == 3
    assert used == [(kind, 4)], "the best of four starts"

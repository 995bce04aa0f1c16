"""Clusters of alike patches, from the rows of their slides' bags; no bag is in memory as a whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.bag_file import as_instances
from hardmil.bags.clusters import cluster_instances
from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.h5_fields import as_coords, dataset_of, values_of
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import HardmilError
from hardmil.files.h5 import open_h5
from hardmil.preprocessing.study_folder import Study

PIXELS_EDGE = 8
"""Patches of pixels are compared as pictures of this edge."""
DIMS = 32
"""Dimensions that are clustered: distances in a random projection are nearly those of the features."""
PER_CLUSTER = 12
"""Mean number of patches in a cluster: one screen of the grid of alike patches."""
MAX_CLUSTERS = 48

# The axes have no names, because slides differ in their number of candidates.
Features = Float[np.ndarray, "_ _"]


def candidate_features(
    study: Study, row: SlideRow, *, index: Int64[np.ndarray, " patch"], corners: Int64[np.ndarray, "patch 2"]
) -> Float[np.ndarray, "patch dim"] | None:
    """The features of some patches of a slide, or small pictures of them if it has a bag of pixels.

    None if its bag cannot be read, or has other patches there now.

    Args:
        study: The study.
        row: The slide.
        index: Which patches, ascending.
        corners: Their top-left corners when they were scored, level-0 px.
    """
    try:
        if study.config.features is None:
            path = study.bag_path(row.slide_id)
        else:
            path = find_feature_file(study.folder / study.config.features, slide_id=row.slide_id)
        found = _rows(path, row, index=index)
    except HardmilError:
        return None
    if found is None or not np.array_equal(found[1], corners):
        return None
    return _as_vectors(found[0])


def _rows(
    path: Path, row: SlideRow, *, index: Int64[np.ndarray, " patch"]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Instances and corners of these patches; None if there are fewer patches now."""
    if path.suffix == ".h5":
        with open_h5(path) as file:
            name = next((name for name in ("features", "patches") if name in file), None)
            if name is not None and "coords" in file:
                corners = as_coords(values_of(file, "coords"), path=path)
                if index.max(initial=0) >= len(corners):
                    return None
                dataset: Any = dataset_of(file, name)
                # CLAM writes (1, n, dim).
                is_nested = name == "features" and dataset.ndim == 3
                values = np.asarray(dataset[0, index] if is_nested else dataset[index])
                return as_instances(values), corners[index]
    bag = read_features(path, row, label=-1)
    return (bag.instances[index], bag.coords[index]) if index.max(initial=0) < len(bag) else None


def _as_vectors(instances: np.ndarray) -> Float[np.ndarray, "patch dim"]:
    if instances.dtype == np.uint8:
        import cv2

        edge = (PIXELS_EDGE, PIXELS_EDGE)
        small = [cv2.resize(patch, edge, interpolation=cv2.INTER_AREA) for patch in instances]
        instances = np.stack(small).reshape(len(small), -1)
    return np.nan_to_num(instances.astype(np.float32))


def cluster_candidates(
    features: Mapping[int, Features], *, sizes: Sequence[int], seed: int
) -> list[Int64[np.ndarray, " patch"]]:
    """The cluster of each candidate, slide by slide; -1 on slides without features.

    Args:
        features: Those of the candidates of a slide, by the number of the slide.
        sizes: Number of candidates of each slide.
        seed: Seed of projection and K-means.
    """
    clusters = [np.full(size, -1, dtype=np.int64) for size in sizes]
    numbers = sorted(features)
    # Some slides may have been encoded again, with another encoder.
    numbers = [one for one in numbers if features[one].shape[1] == features[numbers[0]].shape[1]]
    if not numbers:
        return clusters
    together = np.concatenate([features[number] for number in numbers])
    n_clusters = int(np.clip(len(together) // PER_CLUSTER, 1, MAX_CLUSTERS))
    found = cluster_instances(_projected(together, seed=seed), n_clusters=n_clusters, seed=seed)
    ends = np.cumsum([len(features[number]) for number in numbers])[:-1]
    for number, part in zip(numbers, np.split(found, ends), strict=True):
        clusters[number] = part
    return clusters


def _projected(features: Features, *, seed: int) -> Features:
    """Features with equal spread in each dimension, projected to fewer dimensions."""
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    if scaled.shape[1] <= DIMS:
        return scaled
    rng = np.random.default_rng(seed)
    return scaled @ (rng.normal(size=(scaled.shape[1], DIMS)) / np.sqrt(DIMS)).astype(np.float32)

"""K-means clusters of instances."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

import numpy as np
from jaxtyping import Float, Int

LARGE_POOL = 20_000


def cluster_instances(
    features: Float[np.ndarray, "instance dim"], *, n_clusters: int, seed: int
) -> Int[np.ndarray, " instance"]:
    """The K-means cluster of each instance; at most as many clusters as there are different instances.

    Source: Li et al. 2019, Section 2.3. Departure: mini-batches above 20,000 instances.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans  # pyright: ignore[reportMissingTypeStubs]

    n_clusters = min(n_clusters, len(np.unique(features, axis=0)))
    if n_clusters < 2:
        return np.zeros(len(features), dtype=np.int64)
    kind: Any = MiniBatchKMeans if len(features) > LARGE_POOL else KMeans
    model = kind(n_clusters=n_clusters, n_init=4, random_state=seed % 2**32)
    return np.asarray(model.fit_predict(features), dtype=np.int64)

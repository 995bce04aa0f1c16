"""Small packed batches of embeddings."""

import torch

from hardmil.mil.batches import PackedBatch


def packed(*sizes: int, dim: int = 6, labels: list[float] | None = None, seed: int = 0) -> PackedBatch:
    """Embeddings of bags of these sizes, not negative as after ReLU; labels alternate, 0 first."""
    generator = torch.Generator().manual_seed(seed)
    return PackedBatch(
        instances=torch.rand(sum(sizes), dim, generator=generator),
        offsets=torch.tensor([0, *sizes]).cumsum(0),
        labels=torch.tensor(labels or [float(i % 2) for i in range(len(sizes))]),
    )


def bags_of(batch: PackedBatch) -> list[torch.Tensor]:
    """The embeddings of each bag."""
    return list(batch.instances.split(batch.sizes.tolist()))

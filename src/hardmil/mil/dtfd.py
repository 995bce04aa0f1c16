"""DTFD-MIL: a bag is drawn into pseudo-bags, and the vectors of the pseudo-bags are a bag again."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch
from hardmil.mil.pooling import AttentionLayer, segment_softmax, segment_sum

N_PSEUDO_BAGS = 5


class DoubleTierPooling(nn.Module):
    """Gated attention over the instances of each of five pseudo-bags, and over the five vectors.

    Each pseudo-bag has the label of its bag. The loss of a bag is the mean cross-entropy of its pseudo-bags
    plus that of the second tier. Attention of an instance is its attention in the pseudo-bag times that of
    the pseudo-bag. Pseudo-bags are drawn in each training step; in prediction, the draw depends on the size
    of the bag alone.

    Source: Zhang et al. 2022 (DTFD-MIL), with feature distillation by AFS: the vector of a pseudo-bag is its
    attended sum. Departures: one optimiser for both tiers; attention layers are those of `gated-attention`,
    without biases.
    """

    def __init__(self, config: PoolingConfig, *, embedding_dim: int) -> None:
        super().__init__()
        gated = config.model_copy(update={"kind": "gated-attention"})
        self.attend_instances = AttentionLayer(gated, embedding_dim=embedding_dim)
        self.attend_pseudo_bags = AttentionLayer(gated, embedding_dim=embedding_dim)
        self.classify_bag = nn.Linear(embedding_dim, 1)

    def forward(self, batch: PackedBatch, *, classify: nn.Linear) -> BagOutput:
        """The output for a batch of embeddings; `classify` is the classifier of the first tier."""
        embeddings, n_bags = batch.instances, batch.n_bags
        sizes = batch.sizes.tolist()
        group, bag_of_group = self._draw(sizes, device=embeddings.device)
        n_groups = len(bag_of_group)
        first = segment_softmax(self.attend_instances(embeddings), bag_index=group, n_bags=n_groups)
        vectors = segment_sum(first.unsqueeze(1) * embeddings, bag_index=group, n_bags=n_groups)
        second = segment_softmax(self.attend_pseudo_bags(vectors), bag_index=bag_of_group, n_bags=n_bags)
        bag_vectors = segment_sum(second.unsqueeze(1) * vectors, bag_index=bag_of_group, n_bags=n_bags)
        bag_logit = self.classify_bag(bag_vectors).squeeze(1)
        attention = first * second[group]
        loss = None
        if self.training:
            pseudo = _entropy(classify(vectors).squeeze(1), batch.labels[bag_of_group])
            total = segment_sum(pseudo, bag_index=bag_of_group, n_bags=n_bags)
            loss = _entropy(bag_logit, batch.labels) + total / torch.bincount(bag_of_group, minlength=n_bags)
        return BagOutput(
            bag_logit=bag_logit,
            attention_logit=attention.log(),
            attention=attention,
            instance_logit=classify(embeddings).squeeze(1),
            weights=None,
            bag_loss=loss,
        )

    def _draw(
        self, sizes: list[int], *, device: torch.device
    ) -> tuple[Int[Tensor, " instance"], Int[Tensor, " group"]]:
        """The pseudo-bag of each instance, and the bag of each pseudo-bag; none is empty."""
        groups, bags, first = list[Tensor](), list[int](), 0
        for number, size in enumerate(sizes):
            n_groups = min(N_PSEUDO_BAGS, size)
            generator = None if self.training else torch.Generator().manual_seed(size)
            groups.append(first + torch.randperm(size, generator=generator) % n_groups)
            bags += [number] * n_groups
            first += n_groups
        return torch.cat(groups).to(device), torch.tensor(bags, device=device)


def _entropy(logits: Float[Tensor, " n"], labels: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")

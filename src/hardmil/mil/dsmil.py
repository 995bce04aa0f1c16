"""DSMIL: the strongest instance, and the instances that resemble it."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch
from hardmil.mil.pooling import segment_max, segment_softmax, segment_sum


class DualStreamPooling(nn.Module):
    """The mean of two logits: the highest instance logit, and that of a vector of similar instances.

    Each instance has a query q = Q g and a value v = V g. Attention is the softmax of q_j . q_m / sqrt(L),
    where m is the instance with the highest logit; the second logit is linear in the sum of the attended
    values. Each stream has a cross-entropy, and the loss of a bag is their mean.

    Source: Li, Li and Eliceiri 2021 (DSMIL), Section 3.2. Departures: the products are divided by the root of
    their length L, as in the authors' code; one scale of magnification.
    """

    def __init__(self, *, embedding_dim: int, query_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(embedding_dim, query_dim)
        self.value = nn.Linear(embedding_dim, embedding_dim)
        self.classify_bag = nn.Linear(embedding_dim, 1)

    def forward(self, batch: PackedBatch, *, classify: nn.Linear) -> BagOutput:
        """The output for a batch of embeddings; `classify` gives the instance logits."""
        embeddings, bag_index, n_bags = batch.instances, batch.bag_index, batch.n_bags
        instance_logit = classify(embeddings).squeeze(1)
        strongest = self._strongest(instance_logit, batch)
        queries = self.query(embeddings)
        attention_logit = (queries * queries[strongest][bag_index]).sum(1) / queries.shape[1] ** 0.5
        attention = segment_softmax(attention_logit, bag_index=bag_index, n_bags=n_bags)
        weighted = attention.unsqueeze(1) * self.value(embeddings)
        vector = segment_sum(weighted, bag_index=bag_index, n_bags=n_bags)
        streams = torch.stack([instance_logit[strongest], self.classify_bag(vector).squeeze(1)])
        return BagOutput(
            bag_logit=streams.mean(0),
            attention_logit=attention_logit,
            attention=attention,
            instance_logit=instance_logit,
            weights=None,
            bag_loss=_loss(streams, labels=batch.labels) if self.training else None,
        )

    def _strongest(self, instance_logit: Tensor, batch: PackedBatch) -> Tensor:
        """The index of the first instance of each bag with its highest logit."""
        highest = segment_max(instance_logit.detach(), bag_index=batch.bag_index, n_bags=batch.n_bags)
        is_highest = torch.nonzero(instance_logit == highest[batch.bag_index]).squeeze(1)
        of_bag = batch.bag_index[is_highest]
        first = torch.ones_like(of_bag, dtype=torch.bool)
        first[1:] = of_bag[1:] != of_bag[:-1]
        return is_highest[first]


def _loss(streams: Float[Tensor, "2 bag"], *, labels: Float[Tensor, " bag"]) -> Float[Tensor, " bag"]:
    wanted = labels.expand_as(streams)
    return functional.binary_cross_entropy_with_logits(streams, wanted, reduction="none").mean(0)

"""Poolings without attention: the bag logit is computed from the instance logits alone.

Each also gives attention: the share that each instance has in the bag logit, which sums to 1 over a bag.
"""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig
from hardmil.mil.pooling import segment_max, segment_shares, segment_softmax, segment_sum
from hardmil.mil.scoring import top_weights

STEEPNESS = 10.0
"""a in Kraus et al. 2016."""
N_QUANTILES = 16
"""Couture et al. 2018 divide the instances into 15 parts, which have 16 bounds."""
FIRST_BIAS = 4.0
"""The quantile layer starts with minus this: a bag whose probabilities are all 0.5 starts with logit 0."""


class MeanPooling(nn.Module):
    """The mean instance logit; all instances have the same attention."""

    def forward(
        self,
        instance_logit: Float[Tensor, " instance"],
        *,
        bag_index: Int[Tensor, " instance"],
        sizes: Int[Tensor, " bag"],
    ) -> tuple[Float[Tensor, " bag"], Float[Tensor, " instance"]]:
        """Bag logits and attention."""
        total = segment_sum(instance_logit, bag_index=bag_index, n_bags=len(sizes))
        return total / sizes, (1 / sizes)[bag_index]


class MaxPooling(nn.Module):
    """The highest instance logit; all attention is on that instance, or shared between equal ones."""

    def forward(
        self,
        instance_logit: Float[Tensor, " instance"],
        *,
        bag_index: Int[Tensor, " instance"],
        sizes: Int[Tensor, " bag"],
    ) -> tuple[Float[Tensor, " bag"], Float[Tensor, " instance"]]:
        """Bag logits and attention."""
        highest = segment_max(instance_logit, bag_index=bag_index, n_bags=len(sizes))
        is_highest = (instance_logit == highest[bag_index]).float()
        return highest, segment_shares(is_highest, bag_index=bag_index, n_bags=len(sizes))


class TopKPooling(nn.Module):
    """The mean of the k highest instance logits, which have all the attention in equal shares.

    In a bag of at most k instances it is the mean of all. Common practice; k = 1 is the maximum.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(
        self,
        instance_logit: Float[Tensor, " instance"],
        *,
        bag_index: Int[Tensor, " instance"],
        sizes: Int[Tensor, " bag"],
    ) -> tuple[Float[Tensor, " bag"], Float[Tensor, " instance"]]:
        """Bag logits and attention."""
        bags = instance_logit.detach().split(sizes.tolist())
        attention = torch.cat([top_weights(logits, k=self.k) for logits in bags])
        bag_logit = segment_sum(attention * instance_logit, bag_index=bag_index, n_bags=len(sizes))
        return bag_logit, attention


class NoisyAndPooling(nn.Module):
    """A sigmoid of the mean probability, steep around a learned share b.

    Attention is in proportion to the probability of the instance.

    Source: Kraus et al. 2016, Eq. 7, with a = 10.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(
        self,
        instance_logit: Float[Tensor, " instance"],
        *,
        bag_index: Int[Tensor, " instance"],
        sizes: Int[Tensor, " bag"],
    ) -> tuple[Float[Tensor, " bag"], Float[Tensor, " instance"]]:
        """Bag logits and attention."""
        probabilities = instance_logit.sigmoid()
        mean = segment_sum(probabilities, bag_index=bag_index, n_bags=len(sizes)) / sizes
        # Softmax of the log: probabilities of a confident negative bag may all be 0 in float32.
        log_probabilities = functional.logsigmoid(instance_logit.detach())
        attention = segment_softmax(log_probabilities, bag_index=bag_index, n_bags=len(sizes))
        return self._bag_logit(mean), attention

    def _bag_logit(self, mean: Float[Tensor, " bag"]) -> Float[Tensor, " bag"]:
        lowest = torch.sigmoid(-STEEPNESS * self.share)
        highest = torch.sigmoid(STEEPNESS * (1 - self.share))
        probability = (torch.sigmoid(STEEPNESS * (mean - self.share)) - lowest) / (highest - lowest)
        return torch.logit(probability, eps=1e-6)


class QuantilePooling(nn.Module):
    """A linear layer over 16 quantiles of the probabilities.

    Attention is on the quantiles with the largest weights.

    Source: Couture et al. 2018. Departure: the layer starts with equal positive weights, so that a high
    instance logit counts for the positive class from the beginning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(N_QUANTILES, 1)
        nn.init.constant_(self.layer.weight, 2 * FIRST_BIAS / N_QUANTILES)
        nn.init.constant_(self.layer.bias, -FIRST_BIAS)

    def forward(
        self,
        instance_logit: Float[Tensor, " instance"],
        *,
        bag_index: Int[Tensor, " instance"],
        sizes: Int[Tensor, " bag"],
    ) -> tuple[Float[Tensor, " bag"], Float[Tensor, " instance"]]:
        """Bag logits and attention."""
        bags = [
            self._pool_bag(probabilities) for probabilities in instance_logit.sigmoid().split(sizes.tolist())
        ]
        return torch.cat([logit for logit, _ in bags]), torch.cat([attention for _, attention in bags])

    def _pool_bag(
        self, probabilities: Float[Tensor, " instance"]
    ) -> tuple[Float[Tensor, "1"], Float[Tensor, " instance"]]:
        ordered, order = probabilities.sort()
        rank = torch.linspace(0, len(probabilities) - 1, N_QUANTILES, device=probabilities.device)
        below = rank.floor().long()
        above = rank.ceil().long()
        fraction = rank - below
        quantiles = (1 - fraction) * ordered[below] + fraction * ordered[above]
        weight = self.layer.weight.detach().abs().squeeze(0)
        weight = weight / weight.sum()
        attention = torch.zeros_like(probabilities)
        attention = attention.index_add(0, order[below], (1 - fraction) * weight)
        return self.layer(quantiles), attention.index_add(0, order[above], fraction * weight)


LogitPooling = MeanPooling | MaxPooling | TopKPooling | NoisyAndPooling | QuantilePooling


def logit_pooling(config: PoolingConfig) -> LogitPooling | None:
    """The pooling of this kind; None for those that compute attention from the embeddings."""
    match config.kind:
        case "mean":
            return MeanPooling()
        case "max":
            return MaxPooling()
        case "topk":
            return TopKPooling(config.top_k)
        case "noisy-and":
            return NoisyAndPooling()
        case "quantile":
            return QuantilePooling()
        case _:
            return None

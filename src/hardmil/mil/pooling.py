"""From the instances of packed bags to one value a bag: Eq. 1, Eq. 2, Ilse et al., and the older poolings."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig

# n * w is 1 for every instance of a flat bag; rounding must not make half of them pseudo-negative.
FLAT_TOLERANCE = 1e-6
ATTENTION_KINDS = ("adaptive-attention", "attention", "gated-attention")
ADDING_KINDS = ("mean", "max")
"""Without attention, and yet the bag logit is a weighted sum of the instance logits."""
STEEPNESS = 10.0
"""Of noisy-and: a in Kraus et al. 2016."""
N_QUANTILES = 16
"""Of quantile pooling; Couture et al. 2018 have 15 parts, so 16 bounds."""
FIRST_BIAS = 4.0
"""Of the quantile layer, negative: a bag whose instances all have chance 0.5 begins with logit 0."""


class AttentionLayer(nn.Module):
    """One attention logit an instance: a = v . act(U g), without biases.

    `adaptive-attention` has softsign for act (Li et al. 2019, Eq. 1), `attention` tanh, and
    `gated-attention` multiplies tanh(U g) by sigmoid(W g) (Ilse et al. 2018, Eq. 8 and 9).
    """

    def __init__(self, config: PoolingConfig, *, embedding_dim: int) -> None:
        super().__init__()
        hidden = config.attention_dim or embedding_dim
        self.kind = config.kind
        self.hidden = nn.Linear(embedding_dim, hidden, bias=False)
        self.gate = nn.Linear(embedding_dim, hidden, bias=False) if self.kind == "gated-attention" else None
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, embeddings: Float[Tensor, "instance dim"]) -> Float[Tensor, " instance"]:
        """Attention logits."""
        hidden = self.hidden(embeddings)
        activate = functional.softsign if self.kind == "adaptive-attention" else torch.tanh
        activated = activate(hidden)
        if self.gate is not None:
            activated = activated * torch.sigmoid(self.gate(embeddings))
        return self.score(activated).squeeze(1)


def segment_softmax(
    logits: Float[Tensor, " instance"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " instance"]:
    """Softmax of the logits within each bag: sums to 1 over a bag.

    Source: Li et al. 2019, Eq. 1.
    """
    largest = logits.new_full((n_bags,), -torch.inf).scatter_reduce(0, bag_index, logits.detach(), "amax")
    exponentials = (logits - largest[bag_index]).exp()
    return _shares(exponentials, bag_index=bag_index, n_bags=n_bags)


def pseudo_negatives(
    attention: Float[Tensor, " instance"], *, sizes: Int[Tensor, " bag"]
) -> Bool[Tensor, " instance"]:
    """Whether an instance draws less attention than the mean of its bag.

    The mean is 1 / n exactly, so the test is n * w < 1, less a tolerance for rounding: a flat bag has none.

    Source: Li et al. 2019, the set N of Eq. 2.
    """
    n = torch.repeat_interleave(sizes, sizes)
    return n * attention < 1 - FLAT_TOLERANCE


def adaptive_weights(
    attention: Float[Tensor, " instance"], *, sizes: Int[Tensor, " bag"], lam: float
) -> Float[Tensor, " instance"]:
    """The weight of each instance in its bag's vector: w, or lambda * w for a pseudo-negative one.

    Found anew in every forward pass; membership carries no gradient. Not renormalised.

    Source: Li et al. 2019, Eq. 2.
    """
    return torch.where(pseudo_negatives(attention.detach(), sizes=sizes), lam * attention, attention)


def segment_sum(
    weighted: Float[Tensor, " instance *dim"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " bag *dim"]:
    """Sum over the instances of each bag, of vectors or of single values."""
    return weighted.new_zeros(n_bags, *weighted.shape[1:]).index_add(0, bag_index, weighted)


def _shares(
    values: Float[Tensor, " instance"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " instance"]:
    """Each value as a share of the sum over its bag."""
    return values / segment_sum(values, bag_index=bag_index, n_bags=n_bags)[bag_index]


class LogitPooling(nn.Module):
    """Bag logit from instance logits alone, and as attention the share that each instance has in it.

    `mean`: the mean logit, attention alike. `max`: the highest logit, attention on it alone. `noisy-and`: a
    sigmoid, steep at a learned share b, of the mean chance; attention by chance (Kraus et al. 2016, Eq. 7,
    a = 10). `quantile`: a linear layer over 16 quantiles of the chances; attention where the quantiles that
    weigh most lie (Couture et al. 2018). Departure: its layer begins with equal positive weights, so that a
    high instance logit speaks for the positive class.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "noisy-and":
            self.share = nn.Parameter(torch.tensor(0.5))
        if kind == "quantile":
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
        """Bag logits, and attention that sums to 1 over a bag."""
        total = partial(segment_sum, bag_index=bag_index, n_bags=len(sizes))
        shares = partial(_shares, bag_index=bag_index, n_bags=len(sizes))
        match self.kind:
            case "mean":
                return total(instance_logit) / sizes, (1 / sizes)[bag_index]
            case "max":
                blank = instance_logit.new_full((len(sizes),), -torch.inf)
                highest = blank.scatter_reduce(0, bag_index, instance_logit, "amax")
                return highest, shares((instance_logit == highest[bag_index]).float())
            case "noisy-and":
                chances = instance_logit.sigmoid()
                mean = total(chances) / sizes
                return self._noisy_and(mean), shares(chances.detach())
            case _:
                bags = [
                    self._quantiles(chances) for chances in instance_logit.sigmoid().split(sizes.tolist())
                ]
                return torch.cat([logit for logit, _ in bags]), torch.cat([share for _, share in bags])

    def _noisy_and(self, mean: Float[Tensor, " bag"]) -> Float[Tensor, " bag"]:
        lowest = torch.sigmoid(-STEEPNESS * self.share)
        highest = torch.sigmoid(STEEPNESS * (1 - self.share))
        chance = (torch.sigmoid(STEEPNESS * (mean - self.share)) - lowest) / (highest - lowest)
        return torch.logit(chance, eps=1e-6)

    def _quantiles(
        self, chances: Float[Tensor, " instance"]
    ) -> tuple[Float[Tensor, "1"], Float[Tensor, " instance"]]:
        ordered, order = chances.sort()
        place = torch.linspace(0, len(chances) - 1, N_QUANTILES, device=chances.device)
        below = place.floor().long()
        above = place.ceil().long()
        part = place - below
        quantiles = (1 - part) * ordered[below] + part * ordered[above]
        weight = self.layer.weight.detach().abs().squeeze(0)
        weight = weight / weight.sum()
        shares = torch.zeros_like(chances)
        shares = shares.index_add(0, order[below], (1 - part) * weight)
        return self.layer(quantiles), shares.index_add(0, order[above], part * weight)

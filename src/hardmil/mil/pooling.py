"""Attention pooling of packed bags: attention logits, softmax over a bag (Eq. 1), adaptation (Eq. 2).

Also sums, shares and maxima over the instances of each bag.
"""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig, PoolingKind

FLAT_TOLERANCE = 1e-6
"""With equal attention n * w is 1 for every instance; rounding must not make half of them pseudo-negative."""


class AttentionLayer(nn.Module):
    """Attention logits of each instance: a = v . act(U g), without biases; with `n_logits`, each has its v.

    `adaptive-attention` uses softsign as act (Li et al. 2019, Eq. 1), `attention` and `conjunctive` use tanh,
    and `gated-attention` multiplies tanh(U g) by sigmoid(W g) (Ilse et al. 2018, Eq. 8 and 9).
    `linear-attention` has no hidden layer: a = v . g.

    Source: for `linear-attention`, Pappas and Popescu-Belis 2014. Departures: weights are a softmax, and v is
    learned with the network by its loss; there, weights are fitted for each bag and v is a regression on
    them.
    """

    def __init__(self, config: PoolingConfig, *, embedding_dim: int, n_logits: int = 1) -> None:
        super().__init__()
        self.kind: PoolingKind = config.kind
        is_linear, is_gated = self.kind == "linear-attention", self.kind == "gated-attention"
        hidden = embedding_dim if is_linear else config.attention_dim or embedding_dim
        self.hidden = None if is_linear else nn.Linear(embedding_dim, hidden, bias=False)
        self.gate = nn.Linear(embedding_dim, hidden, bias=False) if is_gated else None
        self.score = nn.Linear(hidden, n_logits, bias=False)

    def forward(self, embeddings: Float[Tensor, "instance dim"]) -> Float[Tensor, " instance *branch"]:
        """Attention logits; the axis of branches is left out where there is one."""
        if self.hidden is None:
            return self.score(embeddings).squeeze(1)
        gate = None if self.gate is None else self.gate(embeddings)
        return self.score(activate(self.hidden(embeddings), kind=self.kind, gate=gate)).squeeze(1)


def activate(
    hidden: Float[Tensor, "*instance hidden"],
    *,
    kind: PoolingKind,
    gate: Float[Tensor, "*instance hidden"] | None,
) -> Float[Tensor, "*instance hidden"]:
    """act(U g) from U g, times the sigmoid of W g where there is a gate; see `AttentionLayer`."""
    activated = functional.softsign(hidden) if kind == "adaptive-attention" else torch.tanh(hidden)
    return activated if gate is None else activated * torch.sigmoid(gate)


def segment_softmax(
    logits: Float[Tensor, " instance"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " instance"]:
    """Softmax of the logits within each bag; the values of a bag sum to 1.

    Source: Li et al. 2019, Eq. 1.
    """
    largest = segment_max(logits.detach(), bag_index=bag_index, n_bags=n_bags)
    exponentials = (logits - largest[bag_index]).exp()
    return segment_shares(exponentials, bag_index=bag_index, n_bags=n_bags)


def pseudo_negatives(
    attention: Float[Tensor, " instance"], *, sizes: Int[Tensor, " bag"]
) -> Bool[Tensor, " instance"]:
    """Whether each instance has less attention than the mean of its bag.

    The mean is exactly 1 / n, so the test is n * w < 1 with a tolerance for rounding. If all instances of a
    bag have the same attention, none is pseudo-negative.

    Source: Li et al. 2019, the set N of Eq. 2.
    """
    return _is_below_mean(attention, n=torch.repeat_interleave(sizes, sizes))


def adaptive_weights(
    attention: Float[Tensor, " instance"],
    *,
    sizes: Int[Tensor, " bag"],
    lam: float,
    n_used: Int[Tensor, " bag"] | None = None,
) -> Float[Tensor, " instance"]:
    """The weight of each instance in its bag's vector: w, or lambda * w if it is pseudo-negative.

    Which instances are pseudo-negative is decided in every forward pass, without a gradient. The weights are
    not renormalised.

    Args:
        attention: w, one for each instance.
        sizes: Number of instances of each bag.
        lam: lambda.
        n_used: How many of them the mean is over, where some are left out and have no attention; None: all.

    Source: Li et al. 2019, Eq. 2.
    """
    n = torch.repeat_interleave(sizes if n_used is None else n_used, sizes)
    return adapted(attention, n=n, lam=lam)


def adapted(
    attention: Float[Tensor, "*instance"], *, n: Int[Tensor, "*size"], lam: float
) -> Float[Tensor, "*instance"]:
    """The same for instances in any layout: n, the size of the bag of each, need only broadcast."""
    return torch.where(_is_below_mean(attention.detach(), n=n), lam * attention, attention)


def _is_below_mean(
    attention: Float[Tensor, "*instance"], *, n: Int[Tensor, "*size"]
) -> Bool[Tensor, "*instance"]:
    return n * attention < 1 - FLAT_TOLERANCE


def segment_sum(
    weighted: Float[Tensor, " instance *dim"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " bag *dim"]:
    """Sum of vectors or scalars over the instances of each bag."""
    return weighted.new_zeros(n_bags, *weighted.shape[1:]).index_add(0, bag_index, weighted)


def segment_shares(
    values: Float[Tensor, " instance"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " instance"]:
    """Each value divided by the sum over its bag."""
    return values / segment_sum(values, bag_index=bag_index, n_bags=n_bags)[bag_index]


def segment_max(
    values: Float[Tensor, " instance"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, " bag"]:
    """The largest value of each bag; equal ones share its gradient."""
    return values.new_full((n_bags,), -torch.inf).scatter_reduce(0, bag_index, values, "amax")

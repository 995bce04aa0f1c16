"""Attention over the instances of packed bags: Eq. 1, Eq. 2, and the attention of Ilse et al."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config import PoolingConfig

# n * w is 1 for every instance of a flat bag; rounding must not make half of them pseudo-negative.
FLAT_TOLERANCE = 1e-6


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
    totals = logits.new_zeros(n_bags).index_add(0, bag_index, exponentials)
    return exponentials / totals[bag_index]


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
    weighted: Float[Tensor, "instance dim"], *, bag_index: Int[Tensor, " instance"], n_bags: int
) -> Float[Tensor, "bag dim"]:
    """Sum over the instances of each bag."""
    return weighted.new_zeros(n_bags, weighted.shape[1]).index_add(0, bag_index, weighted)

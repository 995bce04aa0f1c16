"""Smoothing of values over adjacent patches."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Float, Int
from torch import Tensor


def smoothed(
    values: Float[Tensor, " instance"], *, neighbours: Int[Tensor, "2 pair"], steps: int, alpha: float
) -> Float[Tensor, " instance"]:
    """The values drawn towards those of adjacent patches: a <- (1 - alpha) a0 + alpha * mean of neighbours.

    A patch without neighbours keeps its value.

    Args:
        values: a0, one for each instance.
        neighbours: Pairs (instance, one of its neighbours); see `neighbour_pairs`.
        steps: How often; what lies further away than this many patches has no influence.
        alpha: Weight of the neighbours.

    Source: Castro-Macias et al. 2024, the iteration of the operator Sm. Departures: only attention logits are
    smoothed, not embeddings; the mean of the neighbours replaces the symmetric normalisation by degree, so
    that equal values stay equal, also at the border of the tissue; alpha is not learned.
    """
    target, source = neighbours
    n_neighbours = torch.bincount(target, minlength=len(values))
    has_any = n_neighbours > 0
    own = torch.where(has_any, (1 - alpha) * values, values)
    factor = torch.where(has_any, alpha / n_neighbours, 0.0)
    found = values
    for _ in range(steps):
        total = torch.zeros_like(values).index_add(0, target, found.index_select(0, source))
        found = own + factor * total
    return found

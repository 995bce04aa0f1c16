"""Leaving out some of the most attended instances of a bag in training, so that others are learned from."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LARGEST_TOP = 0.25
"""Largest share of a bag that counts as its most attended instances: all others always stay."""


def draw_masked(
    attention_logit: Float[Tensor, " instance"], *, sizes: Int[Tensor, " bag"], top: int, share: float
) -> Bool[Tensor, " instance"]:
    """Whether each instance is left out of this step: some of the most attended of each bag, at random.

    The draws are from torch's default generator on the CPU, bag after bag.

    Args:
        attention_logit: Attention logits, before the softmax.
        sizes: Number of instances of each bag.
        top: How many instances of a bag are its most attended, at most a quarter of the bag.
        share: Share of these that is left out, rounded down.

    Source: Zhang et al. 2023 (ACMIL), stochastic top-K instance masking. Departures: a bag of less than
    4 * top instances has fewer most attended instances, so that a small bag keeps at least three quarters of
    its instances; left-out instances have no attention at all, and do not count in the mean of Eq. 2.
    """
    masks: list[Tensor] = []
    for logits in attention_logit.detach().split(sizes.tolist()):
        k = min(top, int(LARGEST_TOP * len(logits)))
        # The small number is for shares such as 0.29 of 100, which is below 29 in floating point.
        drawn = torch.randperm(k)[: int(share * k + 1e-9)].to(logits.device)
        mask = torch.zeros_like(logits, dtype=torch.bool)
        mask[logits.topk(k).indices[drawn]] = True
        masks.append(mask)
    return torch.cat(masks)

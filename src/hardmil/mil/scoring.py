"""The weights of instances in the score of a bag, for scores that are means of instance logits."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Float
from torch import Tensor

from hardmil.config.model import PoolingConfig


def score_weights(
    instance_logit: Float[Tensor, " instance"], *, config: PoolingConfig
) -> Float[Tensor, " instance"] | None:
    """What each instance logit of one bag counts in its score; the weights sum to 1.

    None where the score is the bag logit of the network.
    """
    match config.score:
        case "bag":
            return None
        case "mean":
            return torch.full_like(instance_logit, 1 / len(instance_logit))
        case "top":
            return top_weights(instance_logit, k=config.top_k)


def top_weights(instance_logit: Float[Tensor, " instance"], *, k: int) -> Float[Tensor, " instance"]:
    """1 / k for the k highest instance logits of one bag and 0 for the others; k is at most its size."""
    highest = instance_logit.topk(min(k, len(instance_logit))).indices
    weights = torch.zeros_like(instance_logit)
    weights[highest] = 1 / len(highest)
    return weights

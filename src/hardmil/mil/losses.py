"""The terms of the training loss: bag label, and instances of negative bags."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hardmil.bags.batches import PackedBatch
from hardmil.config import InstanceLossConfig
from hardmil.mil.network import BagOutput


def training_loss(
    output: BagOutput, *, batch: PackedBatch, config: InstanceLossConfig, class_weight: Float[Tensor, "2"]
) -> Float[Tensor, ""]:
    """Mean over the bags of cross-entropy on the label and, for negative bags, the instance term."""
    per_bag = functional.binary_cross_entropy_with_logits(output.bag_logit, batch.labels, reduction="none")
    loss = (class_weight[batch.labels.long()] * per_bag).mean()
    if config.beta == 0:
        return loss
    return loss + config.beta * instance_loss(output.instance_logit, batch=batch, hardest=config.hardest)


def instance_loss(
    instance_logit: Float[Tensor, " instance"], *, batch: PackedBatch, hardest: float = 1.0
) -> Float[Tensor, ""]:
    """Mean over all bags of mean softplus(s_j) of the negative ones: a negative bag holds negatives only.

    Args:
        instance_logit: s_j, one an instance.
        batch: The bags they came from.
        hardest: Share of each negative bag that enters, its highest logits first; at least one instance.
    """
    terms = [
        functional.softplus(_highest(logits, share=hardest)).mean()
        for logits, label in zip(
            instance_logit.split(batch.sizes.tolist()), batch.labels.tolist(), strict=True
        )
        if label == 0
    ]
    return torch.stack(terms).sum() / batch.n_bags if terms else instance_logit.new_zeros(())


def _highest(logits: Tensor, *, share: float) -> Tensor:
    return logits if share == 1 else logits.topk(max(1, math.ceil(share * len(logits) - 1e-9))).values

"""What a bag classifier computes for a packed batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BagOutput:
    """What a bag classifier computes for a packed batch, all in float32.

    The bag logit is the bias plus the sum of `weights` times (instance logit - bias). The weights are the
    attention with the factors of Eq. 2, sigmoid(a) / n for conjunctive pooling, or None for a pooling whose
    bag logit is not such a sum. The softmax of the attention logits is the attention. `bag_loss` is the loss
    of each bag where a method has one of its own; None: the cross-entropy of the bag logit. `vector` is z,
    where attention makes one for the bag.

    With more than two classes, logits have a column for each branch, and so has what is of attention, unless
    all branches share it.
    """

    bag_logit: Float[Tensor, " bag *branch"]
    attention_logit: Float[Tensor, " instance *attention"]
    attention: Float[Tensor, " instance *attention"]
    instance_logit: Float[Tensor, " instance *branch"]
    weights: Float[Tensor, " instance *attention"] | None
    bag_loss: Float[Tensor, " bag"] | None = None
    vector: Float[Tensor, "bag dim"] | None = None

    def branch(self, number: int) -> "BagOutput":
        """The output of one branch, as a network of two classes has it."""
        if self.bag_logit.dim() == 1:
            return self
        return BagOutput(
            _column(self.bag_logit, number),
            _column(self.attention_logit, number),
            _column(self.attention, number),
            _column(self.instance_logit, number),
            None if self.weights is None else _column(self.weights, number),
            self.bag_loss,
        )


def _column(values: Tensor, number: int) -> Tensor:
    """The values of one branch; those that all branches share are as they are."""
    return values[:, number] if values.dim() > 1 else values


def side_by_side(branches: Sequence[BagOutput]) -> BagOutput:
    """The outputs of all branches as one, with a column for each."""
    weights = [one.weights for one in branches if one.weights is not None]
    return BagOutput(
        torch.stack([one.bag_logit for one in branches], dim=1),
        torch.stack([one.attention_logit for one in branches], dim=1),
        torch.stack([one.attention for one in branches], dim=1),
        torch.stack([one.instance_logit for one in branches], dim=1),
        torch.stack(weights, dim=1) if weights else None,
    )

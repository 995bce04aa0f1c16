"""What a bag classifier computes for a packed batch."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BagOutput:
    """What a bag classifier computes for a packed batch, all in float32.

    The bag logit is the bias plus the sum of `weights` times (instance logit - bias). The weights are the
    attention with the factors of Eq. 2, sigmoid(a) / n for conjunctive pooling, or None for a pooling whose
    bag logit is not such a sum. The softmax of the attention logits is the attention. `bag_loss` is the loss
    of each bag where a method has one of its own; None: the cross-entropy of the bag logit.
    """

    bag_logit: Float[Tensor, " bag"]
    attention_logit: Float[Tensor, " instance"]
    attention: Float[Tensor, " instance"]
    instance_logit: Float[Tensor, " instance"]
    weights: Float[Tensor, " instance"] | None
    bag_loss: Float[Tensor, " bag"] | None = None

"""The rank loss: strongest instances of positive bags above those of negative bags seen shortly before."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hardmil.mil.batches import PackedBatch
from hardmil.mil.pooling import segment_max


class RankQueue:
    """The highest instance logits of the last bags of each label, in one training; they carry no gradient."""

    def __init__(self, length: int) -> None:
        self._of_label = {label: deque[Tensor](maxlen=length) for label in (0, 1)}

    def add(self, instance_logit: Float[Tensor, " instance"], *, batch: PackedBatch) -> None:
        """Put the bags of a step at the end; with more than `length` of a label, the first are dropped."""
        highest = segment_max(instance_logit.detach(), bag_index=batch.bag_index, n_bags=batch.n_bags)
        for logit, label in zip(highest.unbind(), batch.labels.tolist(), strict=True):
            self._of_label[int(label)].append(logit)

    def of_label(self, label: int) -> list[Tensor]:
        """The highest instance logits of the last bags with this label, oldest first."""
        return list(self._of_label[label])


def rank_loss(
    instance_logit: Float[Tensor, " instance"], *, batch: PackedBatch, queue: RankQueue, margin: float
) -> Float[Tensor, ""]:
    """Rank loss, mean over bags: by how much the order of strongest instances misses the margin.

    A positive bag should have a highest instance logit of at least `margin` above those of the last negative
    bags, and a negative bag one of at least `margin` below those of the last positive bags. Each comparison
    costs what is missing; those of a bag are averaged. A bag without bags to compare with counts as 0.

    Source: Cai et al. 2024 (AttriMIL), its ranking constraint. Departures: the strength of an instance is its
    logit, not attention times logit, because a logit does not depend on the size of the bag, so that one
    margin fits all bags, and every pooling has instance logits; there is a margin, so that order by a hair
    does not suffice; logits are not compared with 0, which is left to the cross-entropy; the queue holds
    logits of the last bags instead of embeddings that are scored again, and all of them are compared.
    """
    highest = segment_max(instance_logit, bag_index=batch.bag_index, n_bags=batch.n_bags)
    terms: list[Tensor] = []
    for logit, label in zip(highest.unbind(), batch.labels.tolist(), strict=True):
        others = queue.of_label(1 - int(label))
        if others:
            ahead = (2 * label - 1) * (logit - torch.stack(others))
            terms.append(functional.relu(margin - ahead).mean())
    return torch.stack(terms).sum() / batch.n_bags if terms else instance_logit.new_zeros(())

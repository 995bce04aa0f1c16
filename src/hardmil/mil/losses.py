"""The training loss: cross-entropy of bags, instance loss of negative bags, verdict loss, rank loss."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hardmil.config.model import ResolvedModelConfig
from hardmil.config.task import TaskConfig
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch
from hardmil.mil.ranking import RankQueue, rank_loss


def training_loss(
    output: BagOutput,
    *,
    batch: PackedBatch,
    config: ResolvedModelConfig,
    class_weight: Float[Tensor, "*answer"],
    queue: RankQueue | None = None,
) -> Float[Tensor, ""]:
    """Mean loss of the bags, plus the instance, verdict and rank losses where they are on.

    The loss of a bag is its cross-entropy, or that of the network's own method. With more than two classes,
    the instance and verdict losses are means over the branches. In a multi-label study, each loss is the sum
    over the branches of what it is for two classes.

    Args:
        output: What the network computed for the batch.
        batch: Bags with labels.
        config: Weights and settings of the losses.
        class_weight: Weight of a bag of each class in the cross-entropy; in a multi-label study, of each
            answer, no and yes, in each branch.
        queue: The bags before these, for the rank loss. None, as for held-out bags: there is no rank loss.
    """
    per_bag = output.bag_loss
    if per_bag is None:
        per_bag = bag_cross_entropy(
            output.bag_logit, labels=batch.labels, task=config.task, class_weight=class_weight
        )
    if batch.bag_weights is not None:
        per_bag = batch.bag_weights * per_bag
    if not config.task.multi_label:
        per_bag = (
            _weights_of(batch.labels, class_weight=class_weight, are_mixed=config.bag_mix.n_parts > 0)
            * per_bag
        )
    loss = config.training.bag_loss * per_bag.mean()
    beta, hardest, rho = config.instance_loss.beta, config.instance_loss.hardest, config.verdict_loss.rho
    full_at = config.verdict_loss.full_at or 1
    n_averaged = 1 if config.task.multi_label else config.task.n_branches
    for number in range(config.task.n_branches):
        logits, bags = output.branch(number).instance_logit, batch.of_branch(number, task=config.task)
        if beta > 0:
            loss = loss + beta / n_averaged * instance_loss(logits, batch=bags, hardest=hardest)
        if rho > 0 and bags.instance_labels is not None:
            loss = loss + rho / n_averaged * verdict_loss(logits, batch=bags, full_at=full_at)
    if queue is not None:
        ranked = rank_loss(output.instance_logit, batch=batch, queue=queue, margin=config.rank_loss.margin)
        loss = loss + config.rank_loss.weight * ranked
    return loss


def _weights_of(
    labels: Float[Tensor, " bag"], *, class_weight: Float[Tensor, " class"], are_mixed: bool
) -> Float[Tensor, " bag"]:
    """The weight of the class of each bag; of a mixed bag, between those of two classes as its label is."""
    if not are_mixed:
        return class_weight[labels.long()]
    below, above = labels.floor(), labels.ceil()
    return torch.lerp(class_weight[below.long()], class_weight[above.long()], labels - below)


def bag_cross_entropy(
    bag_logit: Float[Tensor, " bag *branch"],
    *,
    labels: Float[Tensor, " bag"],
    task: TaskConfig,
    class_weight: Float[Tensor, "*answer"] | None = None,
) -> Float[Tensor, " bag"]:
    """The cross-entropy of each bag: of two classes, of a softmax over exclusive ones, or of ordered ones.

    In the softmax, the logit of the negative class is 0, as it is with two classes. That of ordered classes
    is the sum over the branches "this class or a higher one" (cumulative logits); that of a multi-label study
    the sum over the classes, each answer with its weight.
    """
    if task.is_binary:
        return functional.binary_cross_entropy_with_logits(bag_logit, labels, reduction="none")
    of_branches = bag_logit.reshape(len(labels), task.n_branches)
    if task.multi_label:
        answers = labels.long()[:, None] >> torch.arange(task.n_branches, device=labels.device) & 1
        entropy = functional.binary_cross_entropy_with_logits(of_branches, answers.float(), reduction="none")
        return (entropy if class_weight is None else entropy * class_weight.gather(0, answers)).sum(dim=1)
    if not task.ordinal:
        of_classes = bag_logit.new_zeros(len(labels), task.n_classes)
        of_classes[:, list(task.branch_labels)] = of_branches
        return functional.cross_entropy(of_classes, labels.long(), reduction="none")
    is_yes = (labels[:, None] >= torch.tensor(task.branch_labels, device=labels.device)).float()
    return functional.binary_cross_entropy_with_logits(of_branches, is_yes, reduction="none").sum(dim=1)


def instance_loss(
    instance_logit: Float[Tensor, " instance"], *, batch: PackedBatch, hardest: float = 1.0
) -> Float[Tensor, ""]:
    """Instance loss, mean over bags: mean softplus(s_j) of a negative bag, whose instances are negative.

    Args:
        instance_logit: s_j, one for each instance.
        batch: Their bags; instance weights, where it has them, weight the mean over a bag, and bag weights
            the mean over bags.
        hardest: Share of each negative bag that is used, highest logits first; at least one instance.
    """
    sizes = batch.sizes.tolist()
    weights = batch.instance_weights
    by_bag = [None] * batch.n_bags if weights is None else weights.split(sizes)
    of_bags = [1.0] * batch.n_bags if batch.bag_weights is None else batch.bag_weights.tolist()
    terms = [
        of_bag * _mean_softplus(logits, weights=weights, hardest=hardest)
        for logits, weights, of_bag, label in zip(
            instance_logit.split(sizes), by_bag, of_bags, batch.labels.tolist(), strict=True
        )
        if label == 0
    ]
    return torch.stack(terms).sum() / batch.n_bags if terms else instance_logit.new_zeros(())


def _mean_softplus(logits: Tensor, *, weights: Tensor | None, hardest: float) -> Tensor:
    if hardest < 1:
        kept = logits.topk(max(1, math.ceil(hardest * len(logits) - 1e-9))).indices
        logits, weights = logits[kept], None if weights is None else weights[kept]
    losses = functional.softplus(logits)
    return losses.mean() if weights is None else (weights * losses).sum() / weights.sum()


def verdict_loss(
    instance_logit: Float[Tensor, " instance"], *, batch: PackedBatch, full_at: int = 1
) -> Float[Tensor, ""]:
    """Verdict loss, mean over bags: mean cross-entropy between s_j and the verdicts on judged instances.

    A bag without judged instances counts as 0.

    Args:
        instance_logit: s_j, one for each instance.
        batch: Their bags, with verdicts.
        full_at: A bag with fewer judged instances counts in proportion to their number.
    """
    if batch.instance_labels is None:
        return instance_logit.new_zeros(())
    judged = batch.instance_labels.isfinite()
    bag_index = batch.bag_index[judged]
    losses = functional.binary_cross_entropy_with_logits(
        instance_logit[judged], batch.instance_labels[judged], reduction="none"
    )
    n_judged = torch.bincount(bag_index, minlength=batch.n_bags).clamp(min=full_at)
    return (losses / n_judged[bag_index]).sum() / batch.n_bags

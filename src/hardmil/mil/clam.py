"""CLAM: gated attention, and a clustering of the most and the least attended instances."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hardmil.config.model import PoolingConfig
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch
from hardmil.mil.pooling import AttentionLayer, segment_softmax, segment_sum

N_SAMPLED = 8
BAG_WEIGHT = 0.7
"""Weight of the cross-entropy of a bag; the clustering has the rest."""


class ClamPooling(nn.Module):
    """Gated attention with one branch (SB), or with one for each class (MB).

    In training, a classifier for the class of the bag learns that the 8 most attended instances of its branch
    are of the class, and the 8 least attended are not, by the smooth SVM loss. The loss of a bag is 0.7 times
    its cross-entropy plus 0.3 times that loss.

    Source: Lu et al. 2021 (CLAM), Methods. Departures: with two classes, the logits of a softmax are one
    logit, their difference; no instance is clustered against the other class, as in the authors' setting for
    a tumour against normal tissue; the attention layer is that of `gated-attention`, without biases.
    """

    def __init__(self, config: PoolingConfig, *, embedding_dim: int) -> None:
        super().__init__()
        gated = config.model_copy(update={"kind": "gated-attention"})
        n_branches = 2 if config.kind == "clam-mb" else 1
        self.branches = nn.ModuleList(
            AttentionLayer(gated, embedding_dim=embedding_dim) for _ in range(n_branches)
        )
        self.classify_negative = nn.Linear(embedding_dim, 1) if n_branches == 2 else None
        self.clusters = nn.ModuleList(nn.Linear(embedding_dim, 2) for _ in range(2))

    def forward(self, batch: PackedBatch, *, classify: nn.Linear) -> BagOutput:
        """The output for a batch of embeddings; attention is that of the positive branch."""
        logits = [branch(batch.instances) for branch in self.branches]
        attentions = [segment_softmax(one, bag_index=batch.bag_index, n_bags=batch.n_bags) for one in logits]
        bag_logit = classify(_attended(batch, attentions[-1])).squeeze(1)
        if self.classify_negative is not None:
            bag_logit = bag_logit - self.classify_negative(_attended(batch, attentions[0])).squeeze(1)
        return BagOutput(
            bag_logit=bag_logit,
            attention_logit=logits[-1],
            attention=attentions[-1],
            instance_logit=classify(batch.instances).squeeze(1),
            weights=attentions[-1] if self.classify_negative is None else None,
            bag_loss=self._loss(bag_logit, batch=batch, logits=logits) if self.training else None,
        )

    def _loss(
        self, bag_logit: Float[Tensor, " bag"], *, batch: PackedBatch, logits: list[Tensor]
    ) -> Float[Tensor, " bag"]:
        entropy = functional.binary_cross_entropy_with_logits(bag_logit, batch.labels, reduction="none")
        sizes = batch.sizes.tolist()
        by_branch = [one.detach().split(sizes) for one in logits]
        terms = [
            smooth_svm(*self._clustered(embeddings, by_branch[min(label, len(logits) - 1)][i], label))
            for i, (embeddings, label) in enumerate(
                zip(batch.instances.split(sizes), batch.labels.long().tolist(), strict=True)
            )
        ]
        return BAG_WEIGHT * entropy + (1 - BAG_WEIGHT) * torch.stack(terms)

    def _clustered(
        self, embeddings: Float[Tensor, "instance dim"], attention: Float[Tensor, " instance"], label: int
    ) -> tuple[Tensor, Tensor]:
        """Logits and targets of the most and of the least attended instances of a bag."""
        n = min(N_SAMPLED, len(embeddings))
        chosen = torch.cat([attention.topk(n).indices, (-attention).topk(n).indices])
        targets = torch.arange(2, device=attention.device).flip(0).repeat_interleave(n)
        return self.clusters[label](embeddings[chosen]), targets


def smooth_svm(logits: Float[Tensor, "instance 2"], targets: Tensor) -> Float[Tensor, ""]:
    """The mean of log(1 + exp(1 + the logit of the other class - that of the target)).

    Source: the smooth top-1 SVM loss of Berrada et al. 2018 with temperature 1 and two classes.
    """
    own = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return functional.softplus(1 + logits.sum(1) - 2 * own).mean()


def _attended(batch: PackedBatch, attention: Float[Tensor, " instance"]) -> Float[Tensor, "bag dim"]:
    weighted = attention.unsqueeze(1) * batch.instances
    return segment_sum(weighted, bag_index=batch.bag_index, n_bags=batch.n_bags)

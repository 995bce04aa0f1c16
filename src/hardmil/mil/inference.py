"""Score, attention, instance logits and embeddings of bags, from a trained network."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.errors import BagError
from hardmil.mil.batches import PackedBatch
from hardmil.mil.network import BagClassifier
from hardmil.mil.scoring import score_weights

# Instances embedded at once: limits memory, whatever the size of the bag.
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class BagScore:
    """The output of a model for one bag.

    `contribution` is what each instance adds to the logit of the bag, negative for the negative class: the
    logit is their sum plus `bias`. None for poolings whose logit is not such a sum.

    With more than two classes, `class_scores` are the scores of all classes, which sum to 1, and `branches`
    the output of each branch, whose score is above 0.5 where its answer is yes. The score is then that of the
    class with the highest one, and attention, logits and contributions are those of its branch.
    """

    bag_score: float
    attention: Float[np.ndarray, " instance"]
    instance_logit: Float[np.ndarray, " instance"]
    contribution: Float[np.ndarray, " instance"] | None = None
    bias: float = 0.0
    class_scores: Float[np.ndarray, " class"] | None = None
    branches: "tuple[BagScore, ...]" = ()

    def check(self, slide_id: str) -> None:
        """Check that the score, the attention and the instance logits are numbers.

        Raises:
            BagError: If one is NaN or infinite; the slide is named.
        """
        arrays = {"score": np.array([self.bag_score]), "attention": self.attention}
        for what, values in (arrays | {"instance logits": self.instance_logit}).items():
            broken = int(np.sum(~np.isfinite(values)))
            if broken:
                raise BagError(
                    f"slide {slide_id}: {broken} of {len(values)} values of the {what} are NaN or infinite; "
                    "expected numbers; training probably diverged: lower training.lr and train again. If "
                    "other slides have numbers, check how the features of this one were made"
                )


@torch.inference_mode()
def score_bags(network: BagClassifier, bags: Sequence[Bag]) -> list[BagScore]:
    """Score, attention and instance logits of each bag with all its instances, one bag at a time.

    Raises:
        BagError: If a score, attention or an instance logit is NaN or infinite.
    """
    network.eval()
    return [_score(network, bag) for bag in bags]


def bag_scores(scores: Sequence[BagScore]) -> Float[np.ndarray, " bag"]:
    """The score of each bag."""
    return np.array([score.bag_score for score in scores])


def score_together(networks: Sequence[BagClassifier], bags: Sequence[Bag]) -> list[BagScore]:
    """The outputs of several networks, averaged: bag logits, attention, instance logits and contributions.

    Raises:
        BagError: If a score, attention or an instance logit is NaN or infinite.
    """
    of_each = [score_bags(network, bags) for network in networks]
    return of_each[0] if len(of_each) == 1 else [_mean(scores) for scores in zip(*of_each, strict=True)]


def _mean(scores: Sequence[BagScore]) -> BagScore:
    logits = [np.log(one.bag_score) - np.log1p(-one.bag_score) for one in scores]
    contributions = [one.contribution for one in scores if one.contribution is not None]
    return BagScore(
        bag_score=float(1 / (1 + np.exp(-np.mean(logits)))),
        attention=np.mean([one.attention for one in scores], axis=0),
        instance_logit=np.mean([one.instance_logit for one in scores], axis=0),
        contribution=np.mean(contributions, axis=0) if contributions else None,
        bias=float(np.mean([one.bias for one in scores])),
    )


@torch.inference_mode()
def embed_instances(network: BagClassifier, bag: Bag) -> Float[np.ndarray, "instance dim"]:
    """One vector for each instance: the model without its last layer."""
    network.eval()
    return _embed(network, bag).cpu().numpy()


def _score(network: BagClassifier, bag: Bag) -> BagScore:
    embeddings = _embed(network, bag)
    device = embeddings.device
    offsets = torch.tensor([0, len(bag)], device=device)
    output = network.pool(PackedBatch(embeddings, offsets, labels=torch.zeros(1, device=device), bags=[bag]))
    bias = network.classify.bias.detach()
    bag_logit, weights = output.bag_logit, output.weights
    of_instances = score_weights(output.instance_logit, config=network.config.pooling)
    if of_instances is not None:
        bag_logit, weights = of_instances @ output.instance_logit, of_instances
    contributions = [] if weights is None else [weights * (output.instance_logit - bias)]
    found = _on_cpu([bag_logit, bias, output.attention, output.instance_logit, *contributions])
    score = BagScore(
        # In float64: in float32, all logits above 17 would tie at a score of 1.
        bag_score=found[0].double().sigmoid().item(),
        attention=found[2].numpy(),
        instance_logit=found[3].numpy(),
        contribution=found[4].numpy() if contributions else None,
        bias=found[1].item(),
    )
    score.check(bag.slide_id)
    return score


def _on_cpu(vectors: Sequence[Tensor]) -> Sequence[Float[Tensor, " value"]]:
    """Vectors from a device in one transfer: on a GPU, each transfer waits for the device."""
    flat = [vector.reshape(-1) for vector in vectors]
    return torch.cat(flat).cpu().split([len(vector) for vector in flat])


def _embed(network: BagClassifier, bag: Bag) -> Float[Tensor, "instance dim"]:
    device = next(network.parameters()).device
    chunks = torch.from_numpy(np.require(bag.instances, requirements=["C", "W"])).split(CHUNK)
    return torch.cat([network.embed(chunk.to(device)).float() for chunk in chunks])

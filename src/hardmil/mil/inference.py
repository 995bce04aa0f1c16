"""Score, attention, instance logits and embeddings of bags, from a trained network."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.config.task import TaskConfig
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.bag_score import BagScore
from hardmil.mil.batches import PackedBatch
from hardmil.mil.class_scores import mean_logits, with_classes
from hardmil.mil.network import BagClassifier
from hardmil.mil.scoring import score_weights

# Instances embedded at once: limits memory, whatever the size of the bag.
CHUNK = 4096


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
    of_each, task = [score_bags(network, bags) for network in networks], networks[0].config.task
    if len(of_each) == 1:
        return of_each[0]
    return [_mean_of_all(scores, task=task) for scores in zip(*of_each, strict=True)]


def _mean_of_all(scores: Sequence[BagScore], *, task: TaskConfig) -> BagScore:
    if task.is_binary:
        return _mean(scores)
    branches = [_mean(of_branch) for of_branch in zip(*(one.branches for one in scores), strict=True)]
    of_classes = [one.class_scores for one in scores if one.class_scores is not None]
    return with_classes(branches, logits=mean_logits(of_classes, task=task), task=task)


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
    device, task = embeddings.device, network.config.task
    offsets = torch.tensor([0, len(bag)], device=device)
    output = network.pool(PackedBatch(embeddings, offsets, labels=torch.zeros(1, device=device), bags=[bag]))
    found = [
        _score_of_branch(output.branch(number), bias=bias, network=network)
        for number, bias in enumerate(network.classify.bias.detach())
    ]
    branches, logits = [branch for branch, _ in found], np.array([logit for _, logit in found])
    score = branches[0] if task.is_binary else with_classes(branches, logits=logits, task=task)
    score.check(bag.slide_id)
    return score


def _score_of_branch(output: BagOutput, *, bias: Tensor, network: BagClassifier) -> tuple[BagScore, float]:
    """The output of one branch for one bag, and its bag logit."""
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
    return score, found[0].item()


def _on_cpu(vectors: Sequence[Tensor]) -> Sequence[Float[Tensor, " value"]]:
    """Vectors from a device in one transfer: on a GPU, each transfer waits for the device."""
    flat = [vector.reshape(-1) for vector in vectors]
    return torch.cat(flat).cpu().split([len(vector) for vector in flat])


def _embed(network: BagClassifier, bag: Bag) -> Float[Tensor, "instance dim"]:
    device = next(network.parameters()).device
    chunks = torch.from_numpy(np.require(bag.instances, requirements=["C", "W"])).split(CHUNK)
    return torch.cat([network.embed(chunk.to(device)).float() for chunk in chunks])

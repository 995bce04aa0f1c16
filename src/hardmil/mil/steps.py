"""The gradient steps of an epoch: which bags, in which order, turned how."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.config.model import ResolvedModelConfig
from hardmil.mil.augment import apply_symmetries, draw_symmetries
from hardmil.mil.bag_mixing import BagMixer
from hardmil.mil.batches import PackedBatch, pack


@dataclass(frozen=True, eq=False)
class Step:
    """The bags of one gradient step, and the symmetry of each patch; None: patches stay as they are.

    `labels` are those of mixed bags, between 0 and 1; None: the labels of the bags.
    """

    bags: Sequence[Bag]
    symmetry: Int[Tensor, " patch"] | None
    labels: Sequence[float] | None = None

    def packed(self, *, device: str) -> PackedBatch:
        """The step as one batch on a device."""
        batch = pack(self.bags, device=device)
        if self.labels is not None:
            batch = replace(batch, labels=torch.tensor(self.labels, device=device))
        if self.symmetry is None:
            return batch
        symmetry = self.symmetry.to(device)
        return replace(batch, instances=apply_symmetries(batch.instances, symmetry=symmetry))


def steps_of_epoch(
    bags: Sequence[Bag],
    *,
    mix: Callable[[Bag], Bag] | None,
    config: ResolvedModelConfig,
    generator: torch.Generator,
    mixer: BagMixer | None = None,
) -> Iterator[Step]:
    """One epoch: every bag once in random order, or drawn by class.

    Args:
        bags: Training bags, with what mining adds to them.
        mix: Changes a bag for one step, for example by adding instances; None: bags stay as they are.
        config: Bags of a step, balance, largest bag, augmentation.
        generator: The only source of random draws.
        mixer: Mixes each bag with another bag of the epoch; None: bags are not mixed.
    """
    order = _order(bags, config=config, generator=generator)
    size = config.training.bags_per_step
    partners = torch.randperm(len(bags), generator=generator).tolist() if mixer else []
    for first in range(0, len(order), size):
        picked, labels = [bags[i] for i in order[first : first + size]], None
        if mixer:
            others = [bags[partners[i]] for i in order[first : first + size]]
            pairs = [mixer.mix(*pair, generator=generator) for pair in zip(picked, others, strict=True)]
            picked, labels = [bag for bag, _ in pairs], [label for _, label in pairs]
        chosen = [_subset(bag, config=config, generator=generator) for bag in picked]
        mixed = chosen if mix is None else [mix(bag) for bag in chosen]
        is_turned = config.training.augment and mixed[0].kind == "pixels"
        n_patches = sum(len(bag) for bag in mixed)
        symmetry = draw_symmetries(n_patches, generator=generator) if is_turned else None
        yield Step(mixed, symmetry, labels)


def _order(bags: Sequence[Bag], *, config: ResolvedModelConfig, generator: torch.Generator) -> list[int]:
    if config.training.balance != "sampler":
        return torch.randperm(len(bags), generator=generator).tolist()
    labels = torch.tensor([bag.label for bag in bags])
    if config.task.multi_label:
        weights = _answer_weights(labels, n_branches=config.task.n_branches)
    else:
        weights = 1.0 / torch.bincount(labels, minlength=2)[labels]
    return torch.multinomial(weights, len(bags), replacement=True, generator=generator).tolist()


def _answer_weights(labels: Int[Tensor, " bag"], *, n_branches: int) -> Float[Tensor, " bag"]:
    """How often a multi-label bag is drawn: mean over the classes of one over the bags with its answer."""
    yes = labels[:, None] >> torch.arange(n_branches) & 1
    n_yes = yes.sum(dim=0)
    return (1.0 / torch.where(yes == 1, n_yes, len(labels) - n_yes)).mean(dim=1)


def _subset(bag: Bag, *, config: ResolvedModelConfig, generator: torch.Generator) -> Bag:
    """The bag, or a random subset of it if it has more than `max_instances`."""
    n = config.training.max_instances
    if len(bag) <= n:
        return bag
    return bag.take(torch.randperm(len(bag), generator=generator)[:n].sort().values.numpy())

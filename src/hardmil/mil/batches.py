"""Ragged bags in one packed batch: all instances in one tensor, and the offset of each bag."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.config.task import TaskConfig


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Bags as networks take them.

    Bag b has the instances `offsets[b]` to `offsets[b + 1]`. Pixels stay uint8, channels last. Instance
    labels (NaN: unknown) are None where nothing is known, weights are None where all are equal.
    `bags` are what was packed, for what only some networks need. Instances that are `left_out` get no
    attention in this step. With more than two classes, labels and
    weights of instances have a column for each branch.
    """

    instances: Num[Tensor, "instance ..."]
    offsets: Int[Tensor, " bag_plus_one"]
    labels: Float[Tensor, " bag"]
    instance_labels: Float[Tensor, " instance *branch"] | None = None
    instance_weights: Float[Tensor, " instance *branch"] | None = None
    bag_weights: Float[Tensor, " bag"] | None = None
    bags: Sequence[Bag] = ()
    left_out: Bool[Tensor, " instance"] | None = None

    @property
    def n_bags(self) -> int:
        """Number of bags."""
        return len(self.labels)

    @cached_property
    def sizes(self) -> Int[Tensor, " bag"]:
        """Number of instances of each bag."""
        return self.offsets.diff()

    @cached_property
    def bag_index(self) -> Int[Tensor, " instance"]:
        """The bag each instance belongs to."""
        bags = torch.arange(self.n_bags, device=self.offsets.device)
        return torch.repeat_interleave(bags, self.sizes)

    def of_branch(self, number: int, *, task: TaskConfig) -> "PackedBatch":
        """The batch as one branch sees it: label 1 for yes, and 0 where no instance is of its class."""
        if task.is_binary:
            return self

        labels = [float(task.is_yes(int(label), branch=number)) for label in self.labels.tolist()]
        return replace(
            self,
            labels=self.labels.new_tensor(labels),
            instance_labels=_column(self.instance_labels, number),
            instance_weights=_column(self.instance_weights, number),
        )

    def neighbours(self) -> Int[Tensor, "2 pair"]:
        """Pairs of instances that are adjacent on one slide; see `neighbour_pairs`.

        Raises:
            TypeError: If the batch was made without its bags.
        """
        if len(self.bags) != self.n_bags:
            raise TypeError("the neighbours of instances are those of their bags; this batch has no bags")
        first, pairs = 0, list[np.ndarray]()
        for bag in self.bags:
            pairs.append(bag.neighbours + first if first else bag.neighbours)
            first += len(bag)
        return torch.from_numpy(np.concatenate(pairs, axis=1)).to(self.offsets.device)


def _column(values: Tensor | None, number: int) -> Tensor | None:
    """The values of one branch; those that all branches share are as they are."""
    return values if values is None or values.dim() == 1 else values[:, number]


def pack(bags: Sequence[Bag], *, device: torch.device | str = "cpu") -> PackedBatch:
    """The bags as one batch on a device, one bag after the other."""
    instances = np.concatenate([bag.instances for bag in bags]) if len(bags) > 1 else bags[0].instances
    sizes = torch.tensor([0] + [len(bag) for bag in bags])
    return PackedBatch(
        instances=torch.from_numpy(np.require(instances, requirements=["C", "W"])).to(device),
        offsets=sizes.cumsum(0).to(device),
        labels=torch.tensor([float(bag.label) for bag in bags], device=device),
        instance_labels=_packed(bags, [bag.instance_labels for bag in bags], missing=np.nan, device=device),
        instance_weights=_packed(bags, [bag.instance_weights for bag in bags], missing=1.0, device=device),
        bag_weights=_bag_weights(bags, device=device),
        bags=bags,
    )


def _bag_weights(bags: Sequence[Bag], *, device: torch.device | str) -> Float[Tensor, " bag"] | None:
    if all(bag.weight == 1 for bag in bags):
        return None
    return torch.tensor([bag.weight for bag in bags], device=device)


def _packed(
    bags: Sequence[Bag],
    known: Sequence[np.ndarray | None],
    *,
    missing: float,
    device: torch.device | str,
) -> Float[Tensor, " instance *branch"] | None:
    """The values of each instance, `missing` for bags without values; None if no bag has values."""
    columns = next((values.shape[1:] for values in known if values is not None), None)
    if columns is None:
        return None
    filled = [
        np.full((len(bag), *columns), missing) if values is None else values
        for bag, values in zip(bags, known, strict=True)
    ]
    return torch.from_numpy(np.concatenate(filled).astype(np.float32)).to(device)

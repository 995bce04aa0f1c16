"""A teacher: the moving average of a network, which leaves out what the network finds too easily."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hardmil.config.model import TeacherConfig
from hardmil.device import Device
from hardmil.errors import ConfigError
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch
from hardmil.mil.network import BagClassifier


@dataclass(frozen=True, eq=False)
class Teacher:
    """The moving average of a network in training.

    In each step, some of the instances to which the teacher pays most attention are left out of the bag, so
    that the network has to find others; and the bag vector of the network should be like that of the teacher,
    who sees the whole bag.

    Source: Tang et al. 2023 (MHIM-MIL), masking by high attention. Departures: the teacher begins as the
    network does, not as a trained one, so its average is shorter; instances of low attention are not left
    out.
    """

    network: BagClassifier
    config: TeacherConfig
    device: Device

    @torch.no_grad()
    def masked(self, batch: PackedBatch) -> tuple[PackedBatch, Float[Tensor, "bag dim"]]:
        """The batch with instances left out, and the bag vectors of the teacher."""
        with self.device.autocast():
            output = self.network(batch)
        left_out = draw_left_out(
            output.attention, sizes=batch.sizes, share=self.config.mask_share, choice=self.config.mask_choice
        )
        return replace(batch, left_out=left_out), output.vector

    def disagreement(self, output: BagOutput, *, target: Float[Tensor, "bag dim"]) -> Float[Tensor, ""]:
        """The consistency loss: cross-entropy between the softmax over each vector, the teacher's sharper."""
        if output.vector is None:
            raise TypeError("the consistency loss compares bag vectors; this output has none")
        wanted = (target / self.config.temperature).softmax(dim=1)
        return -self.config.consistency * (wanted * output.vector.log_softmax(dim=1)).sum(dim=1).mean()

    @torch.no_grad()
    def follow(self, network: BagClassifier) -> None:
        """Move a little towards the network; called after each step."""
        share = 1 - self.config.momentum
        for own, other in zip(self.network.parameters(), network.parameters(), strict=True):
            own.lerp_(other, share)


def find_teacher(network: BagClassifier, *, device: Device) -> Teacher | None:
    """The teacher of a network that is about to be trained; None if it has none.

    Raises:
        ConfigError: If there are more than two classes, or the pooling computes no attention from the
            embeddings.
    """
    config = network.config
    if config.teacher.mask_share == 0:
        return None
    if not config.task.is_binary or network.attend is None:
        raise ConfigError(
            f"teacher.mask_share: {config.teacher.mask_share}, with {config.task.n_classes} classes and "
            f"pooling.kind {config.pooling.kind}; expected two classes and a pooling with attention; set "
            "teacher.mask_share to 0"
        )
    return Teacher(deepcopy(network).requires_grad_(False).eval(), config.teacher, device)


def draw_left_out(
    attention: Float[Tensor, " instance"], *, sizes: Int[Tensor, " bag"], share: float, choice: float
) -> Bool[Tensor, " instance"]:
    """Whether each instance is left out: `share` of each bag, drawn from those with the most attention.

    The draws are from torch's default generator on the CPU, bag after bag. At least one instance stays.

    Args:
        attention: Of the teacher.
        sizes: Number of instances of each bag.
        share: Share of a bag that is left out, rounded up.
        choice: Share of the most attended instances that are left out: there are share / choice of the bag.
    """
    masks: list[Tensor] = []
    for values in attention.split(sizes.tolist()):
        n = len(values)
        # The small number is for products such as 0.07 * 100, which is above 7 in floating point.
        n_left_out = min(math.ceil(share * n - 1e-9), n - 1)
        n_most = min(max(math.ceil(share / choice * n - 1e-9), n_left_out), n)
        drawn = torch.randperm(n_most)[:n_left_out].to(values.device)
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[values.topk(n_most).indices[drawn]] = True
        masks.append(mask)
    return torch.cat(masks)

"""Many bag classifiers with the same settings as one: their weights are stacked."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from torch import Tensor
from torch.nn import functional

from hardmil.device import Device
from hardmil.mil.dropout import dropout_key, dropout_masks
from hardmil.mil.network import BagClassifier, PatchNetwork
from hardmil.mil.pooling import activate, adapted
from hardmil.mil.stacked_conv import conv_pool_relu, in_eights

TILE = 32
"""Patches of one network that its convolutions process together; bags are filled up to a multiple of it."""


@dataclass(frozen=True, eq=False)
class StackedBags:
    """One bag for each network.

    `patches` are tiles of patches, one bag after the other, each filled up to whole tiles; `network_of_tile`
    says whose they are. `places` are the positions of the rows of `patches` in a table of [network * width],
    where `width` is that of the largest bag in whole tiles. Class weight 0 is a network without a bag, which
    learns nothing.
    """

    patches: UInt8[Tensor, "row size size 3"]
    network_of_tile: Int[Tensor, " tile"]
    places: Int[Tensor, " row"]
    width: int
    sizes: Int[Tensor, " network"]
    labels: Float[Tensor, " network"]
    class_weight: Float[Tensor, " network"]


class StackedNetworks:
    """The weights of networks of equal shape, stacked by name, and their loss.

    The arithmetic is that of `BagClassifier` and `training_loss`, for poolings by attention.
    """

    def __init__(self, networks: Sequence[BagClassifier], *, device: Device) -> None:
        self.config, self.device = networks[0].config, device
        states = [network.state_dict() for network in networks]
        self.weights = {
            name: torch.stack([state[name] for state in states]).to(device.name).requires_grad_()
            for name in states[0]
        }
        self.dropout_seeds = [_patch_network(network).dropout.seed for network in networks]

    def losses(self, bags: StackedBags, *, step: int) -> Float[Tensor, " network"]:
        """The training loss of each network on its bag; 0 for a network without a bag."""
        embeddings = self._embed(bags, step=step).float()
        attention_logit = self._attention_logit(embeddings)
        is_instance = torch.arange(bags.width, device=bags.sizes.device) < bags.sizes.unsqueeze(1)
        attention = attention_logit.masked_fill(~is_instance, -torch.inf).softmax(dim=1)
        weights = self._weights(attention, sizes=bags.sizes)
        z = (weights.unsqueeze(2) * embeddings).sum(dim=1)
        o, b = self.weights["classify.weight"], self.weights["classify.bias"]
        bag_logit = (z * o.squeeze(1)).sum(dim=1) + b.squeeze(1)
        loss = bags.class_weight * functional.binary_cross_entropy_with_logits(
            bag_logit, bags.labels, reduction="none"
        )
        beta = self.config.instance_loss.beta
        if beta > 0:
            instance_logit = torch.baddbmm(b.unsqueeze(1), embeddings, o.transpose(1, 2)).squeeze(2)
            loss = loss + beta * _instance_losses(instance_logit, is_instance=is_instance, bags=bags)
        return loss

    def _embed(self, bags: StackedBags, *, step: int) -> Num[Tensor, "network instance dim"]:
        dtype = torch.bfloat16 if self.device.bfloat16 else torch.float32
        x = bags.patches.to(dtype).sub(127.5).div(127.5)
        for name in ("conv1", "conv2"):
            weight, bias = self._parameters(name, dtype=dtype)
            if self.device.name.startswith("cuda"):
                weight, bias = in_eights(weight, bias, n_channels=x.shape[-1])
            x = conv_pool_relu(x, weight=weight[bags.network_of_tile], bias=bias[bags.network_of_tile])
        x = x.flatten(1)
        table = x.new_zeros((len(bags.sizes) * bags.width, x.shape[1]))
        x = table.index_copy(0, bags.places, x).view(len(bags.sizes), bags.width, -1)
        for number, name in enumerate(("fc1", "fc2")):
            weight, bias = self._parameters(name, dtype=dtype)
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2)).relu_()
            # The network calls its dropout twice in each step.
            x = self._dropout(x, call=2 * step + number)
        return x

    def _parameters(self, name: str, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        weight, bias = (self.weights[f"embed.{name}.{kind}"].to(dtype) for kind in ("weight", "bias"))
        return weight, bias

    def _dropout(self, x: Num[Tensor, "network instance dim"], *, call: int) -> Tensor:
        p = self.config.network.dropout
        if p == 0:
            return x
        keys = [dropout_key(seed, step=call) for seed in self.dropout_seeds]
        on_device = self.device.receive(torch.tensor(keys, dtype=torch.int32))
        masks = dropout_masks(on_device, n=x[0].numel(), p=p, like=x)
        return x * masks.view(x.shape)

    def _attention_logit(
        self, embeddings: Float[Tensor, "network instance dim"]
    ) -> Float[Tensor, "network instance"]:
        hidden = embeddings @ self.weights["attend.hidden.weight"].transpose(1, 2)
        gate = self.weights.get("attend.gate.weight")
        gated = None if gate is None else embeddings @ gate.transpose(1, 2)
        activated = activate(hidden, kind=self.config.pooling.kind, gate=gated)
        return (activated @ self.weights["attend.score.weight"].transpose(1, 2)).squeeze(2)

    def _weights(
        self, attention: Float[Tensor, "network instance"], *, sizes: Int[Tensor, " network"]
    ) -> Float[Tensor, "network instance"]:
        """Eq. 2 for the poolings that have it."""
        pooling = self.config.pooling
        is_adaptive = pooling.kind == "adaptive-attention"
        return adapted(attention, n=sizes.unsqueeze(1), lam=pooling.lam) if is_adaptive else attention


def _instance_losses(
    instance_logit: Float[Tensor, "network instance"],
    *,
    is_instance: Bool[Tensor, "network instance"],
    bags: StackedBags,
) -> Float[Tensor, " network"]:
    """Mean softplus of the instances of each negative bag; 0 for positive bags."""
    means = (functional.softplus(instance_logit) * is_instance).sum(dim=1) / bags.sizes
    is_negative = (bags.labels == 0) & (bags.class_weight > 0)
    return torch.where(is_negative, means, 0.0)


def _patch_network(network: BagClassifier) -> PatchNetwork:
    if not isinstance(network.embed, PatchNetwork):
        raise TypeError("only networks that see pixels can be stacked")
    return network.embed

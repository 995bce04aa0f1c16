"""Many trainings at once: one step of each is one step of stacked networks.

A study is hundreds of small, independent trainings, each of which leaves a GPU idle. Here the weights of all
are stacked, and each network takes its own next bag. The same seed draws the same weights, order of bags,
symmetries and dropout as `fit`, and gives the same network up to rounding.
"""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.config.model import ResolvedModelConfig
from hardmil.device import Device
from hardmil.errors import TrainingError
from hardmil.mil.network import BagClassifier
from hardmil.mil.patch_store import PatchStore
from hardmil.mil.stacked import TILE, StackedBags, StackedNetworks
from hardmil.mil.steps import steps_of_epoch
from hardmil.mil.training import TrainingExtras, class_weights, new_network

CHECK_EVERY = 100
"""Steps between two checks for a loss that is not finite; at each, the host waits for the device."""


@dataclass(frozen=True, eq=False)
class Training:
    """One training of a population: the arguments of `fit`."""

    bags: Sequence[Bag]
    seed: int
    extras: TrainingExtras | None = None
    start: BagClassifier | None = None


@dataclass(frozen=True, eq=False)
class Population:
    """Networks in the state of their best epochs, and the loss of each epoch."""

    networks: list[BagClassifier]
    losses: Float[np.ndarray, "network epoch"]


def can_join_population(bags: Sequence[Bag], *, config: ResolvedModelConfig) -> bool:
    """Whether a population can hold this training; others are left to `fit`."""
    training = config.training
    return (
        all(bag.kind == "pixels" for bag in bags)
        and all(bag.instance_labels is None and bag.instance_weights is None for bag in bags)
        and all(bag.weight == 1 for bag in bags)
        and config.task.is_binary
        and config.pooling.kind in ("adaptive-attention", "attention", "gated-attention")
        and config.pooling.mask_top == config.pooling.smooth_steps == 0
        and config.instance_loss.hardest == 1
        and config.rank_loss.weight == config.bag_mix.n_parts == config.teacher.mask_share == 0
        and config.training.bag_loss == 1
        and training.bags_per_step == 1
        and training.select != "validation"
    )


def fit_population(
    trainings: Sequence[Training],
    *,
    config: ResolvedModelConfig,
    device: Device,
    on_step: Callable[[int], None] = lambda n_patches: None,
) -> Population:
    """The networks that `fit` gives for each training, trained together.

    Args:
        trainings: Trainings for which `can_join_population` is true, with patches of one size.
        config: Settings of model and training, the same for all.
        device: Where to run.
        on_step: Called after each step with the number of patches it trained on.

    Raises:
        TrainingError: If a loss becomes NaN or infinite.
    """
    networks = [new_network(one.bags, config=config, seed=one.seed, start=one.start) for one in trainings]
    stacked = StackedNetworks(networks, device=device)
    best = _BestEpochs(stacked, config=config)
    store = PatchStore((bag for one in trainings for bag in one.bags), device=device)
    settings = config.training
    optimiser = torch.optim.Adam(
        stacked.weights.values(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    walks = [_walk(one, config=config) for one in trainings]
    number = 0
    while any(moves := [next(walk, None) for walk in walks]):
        bags = _stacked_bags(moves, store=store, device=device)
        losses = stacked.losses(bags, step=number)
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
        best.update(losses.detach(), moves=moves)
        number += 1
        if number % CHECK_EVERY == 0:
            best.check_finite()
        on_step(sum(len(move.bag) for move in moves if move))
    best.check_finite()
    for position, network in enumerate(networks):
        network.load_state_dict(best.state(position))
    return Population([one.to(device.name).eval() for one in networks], best.losses.cpu().numpy())


@dataclass(frozen=True, eq=False)
class _Move:
    """The next step of one training; `ends_epoch` is the number of bags of the epoch it ends, otherwise 0."""

    bag: Bag
    symmetry: Tensor | None
    class_weight: float
    epoch: int
    ends_epoch: int


def _walk(training: Training, *, config: ResolvedModelConfig) -> Iterator[_Move]:
    """All steps of a training, epoch after epoch, with the draws of `fit`."""
    generator = torch.Generator().manual_seed(training.seed)
    weights = class_weights(training.bags, config=config).tolist()
    extras = training.extras
    for epoch in range(config.training.epochs):
        joined = [*training.bags, *(extras.draw(epoch) if extras else [])]
        mix = partial(extras.mix, epoch=epoch) if extras else None
        steps = steps_of_epoch(joined, mix=mix, config=config, generator=generator)
        for number, step in enumerate(steps, 1):
            (bag,) = step.bags
            ends = len(joined) if number == len(joined) else 0
            yield _Move(bag, step.symmetry, weights[bag.label], epoch, ends)


def _stacked_bags(moves: Sequence[_Move | None], *, store: PatchStore, device: Device) -> StackedBags:
    """One bag for each network; one that has finished gets a single patch and class weight 0."""
    sizes = np.array([len(move.bag) if move else 1 for move in moves])
    firsts = store.place([move.bag if move else None for move in moves])
    n_tiles = -(-sizes // TILE)
    widths = n_tiles * TILE
    begins = np.cumsum(widths) - widths
    network_of_row = np.repeat(np.arange(len(moves)), widths)
    within = np.arange(widths.sum()) - begins[network_of_row]
    is_patch = within < sizes[network_of_row]
    stored = np.where(is_patch, np.array(firsts)[network_of_row] + within, 0)
    symmetry = np.zeros(len(within), np.int64)
    for move, begin in zip(moves, begins.tolist(), strict=True):
        if move and move.symmetry is not None:
            symmetry[begin : begin + len(move.bag)] = move.symmetry.numpy()

    def moved(values: np.ndarray) -> Tensor:
        return device.receive(torch.from_numpy(values))

    return StackedBags(
        patches=store.take(moved(stored), symmetry=moved(symmetry)),
        network_of_tile=moved(np.repeat(np.arange(len(moves)), n_tiles)),
        places=moved(network_of_row * widths.max() + within),
        width=int(widths.max()),
        sizes=moved(sizes),
        labels=moved(np.array([move.bag.label if move else 0 for move in moves], np.float32)),
        class_weight=moved(np.array([move.class_weight if move else 0 for move in moves], np.float32)),
    )


class _BestEpochs:
    """The loss of each epoch of each network, and the weights of its best epoch so far, on the device."""

    def __init__(self, stacked: StackedNetworks, *, config: ResolvedModelConfig) -> None:
        self._weights, self._device = stacked.weights, stacked.device
        self._best = {name: value.detach().clone() for name, value in stacked.weights.items()}
        self._keep_last = config.training.select == "last"
        n_networks = len(stacked.dropout_seeds)
        any_weight = next(iter(stacked.weights.values()))
        self._sum = any_weight.new_zeros(n_networks)
        self._lowest = any_weight.new_full((n_networks,), torch.inf)
        self.losses = any_weight.new_zeros((n_networks, config.training.epochs))

    def update(self, losses: Float[Tensor, " network"], *, moves: Sequence[_Move | None]) -> None:
        """Add the losses of a step, and end the epochs that it ends."""
        self._sum += losses
        ended = [(i, move.epoch, move.ends_epoch) for i, move in enumerate(moves) if move and move.ends_epoch]
        if not ended:
            return
        which, epochs, n_bags = self._device.receive(torch.tensor(ended)).unbind(dim=1)
        means = self._sum[which] / n_bags
        self.losses[which, epochs] = means
        self._sum[which] = 0
        is_better = means < self._lowest[which]
        if self._keep_last:
            is_better = torch.ones_like(is_better)
        self._lowest[which] = torch.where(is_better, means, self._lowest[which])
        for name, best in self._best.items():
            better = is_better.view(-1, *[1] * (best.dim() - 1))
            best[which] = torch.where(better, self._weights[name].detach()[which], best[which])

    def check_finite(self) -> None:
        """Check all losses so far.

        Raises:
            TrainingError: If one is NaN or infinite.
        """
        is_bad = ~torch.isfinite(self.losses)
        if bool(is_bad.any()):
            network, epoch = is_bad.nonzero()[0].tolist()
            raise TrainingError(
                f"epoch {epoch + 1} of training {network + 1}: the loss is "
                f"{self.losses[network, epoch].item()}, expected a finite number; lower training.lr, or find "
                "the slide with --population 1, which names it"
            )

    def state(self, number: int) -> dict[str, Tensor]:
        """The weights of the best epoch of one network."""
        return {name: value[number] for name, value in self._best.items()}

"""The training loop."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.bags.folds import inner_folds
from hardmil.config.model import ResolvedModelConfig
from hardmil.config.task import TaskConfig
from hardmil.device import Device, find_device
from hardmil.errors import BagError, TrainingError
from hardmil.mil.bag_mixing import find_mixer
from hardmil.mil.bag_output import BagOutput
from hardmil.mil.batches import PackedBatch, pack
from hardmil.mil.losses import training_loss
from hardmil.mil.network import BagClassifier, FeatureNetwork
from hardmil.mil.ranking import RankQueue
from hardmil.mil.steps import steps_of_epoch
from hardmil.mil.teacher import find_teacher


@runtime_checkable
class TrainingExtras(Protocol):
    """What mining adds to the training: whole bags, such as hard bags, or instances inside training bags."""

    def draw(self, epoch: int) -> Sequence[Bag]:
        """The bags added in one epoch."""
        ...

    def mix(self, bag: Bag, *, epoch: int) -> Bag:
        """A training bag as it is used in one step of an epoch."""
        ...

    def fingerprint(self) -> str:
        """Changes with anything that changes what is added."""
        ...

    def within(self, slide_ids: set[str]) -> "TrainingExtras | None":
        """The same with only the instances of these slides; None if there are none."""
        ...

    def cases(self) -> set[str]:
        """The cases that its instances are from."""
        ...


@dataclass
class BestEpoch:
    """The best epoch so far."""

    loss: float = math.inf
    epoch: int = -1
    state: dict[str, Tensor] | None = None

    def update(self, network: BagClassifier, *, loss: float, epoch: int) -> None:
        """Keep this epoch if its loss is lower than all before."""
        if loss < self.loss:
            state = {name: value.detach().clone() for name, value in network.state_dict().items()}
            self.loss, self.epoch, self.state = loss, epoch, state


def fit(
    bags: Sequence[Bag],
    *,
    config: ResolvedModelConfig,
    seed: int = 0,
    device: Device | None = None,
    extras: TrainingExtras | None = None,
    start: BagClassifier | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> BagClassifier:
    """A bag classifier trained on these bags, in the state of its best epoch.

    Args:
        bags: Training bags of one kind, with labels.
        config: Settings of model and training.
        seed: Seed of weights, order, augmentation and dropout.
        device: Where to run; the fastest available device by default.
        extras: What mining adds to the bags.
        start: A network to continue from, instead of new weights.
        on_epoch: Called after each epoch with its number and its loss.

    Raises:
        TrainingError: If the loss becomes NaN or infinite, or the device does not exist on this machine.
        BagError: If the patches are not square, or not of a size that the patch network takes, or a label is
            not that of a class.
        FoldError: If epochs are selected by validation, and a class has fewer than two cases.

    Source: Li et al. 2019, Section 3: Adam (0.9, 0.999), the epoch with the lowest loss is used.
    """
    device = device or find_device("auto", precision=config.training.precision)
    _check_labels(bags, task=config.task)
    # All devices are named, because fork_rng warns if it has to find several.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        training, validation = _split(bags, config=config, seed=seed)
        if extras and validation:
            extras = extras.within({bag.slide_id for bag in training})
        network = _network(training, config=config, start=start).to(device.name)
        optimiser = _adam(network, config=config)
        weight = class_weights(training, config=config).to(device.name)
        queue = RankQueue(config.rank_loss.queue) if config.rank_loss.weight > 0 else None
        teacher, mixer = find_teacher(network, device=device), find_mixer(training, config=config, seed=seed)
        best = BestEpoch()
        for epoch in range(config.training.epochs):
            network.train()
            losses: list[Tensor] = []
            slides: list[list[str]] = []
            joined = [*training, *(extras.draw(epoch) if extras else [])]
            mix = partial(extras.mix, epoch=epoch) if extras else None
            for step in steps_of_epoch(joined, mix=mix, config=config, generator=generator, mixer=mixer):
                batch = step.packed(device=device.name)
                target = None
                if teacher is not None:
                    batch, target = teacher.masked(batch)
                output = _forward(network, batch, device=device)
                loss = training_loss(output, batch=batch, config=config, class_weight=weight, queue=queue)
                if queue is not None:
                    queue.add(output.instance_logit, batch=batch)
                if teacher is not None and target is not None:
                    loss = loss + teacher.disagreement(output, target=target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if teacher is not None:
                    teacher.follow(network)
                losses.append(loss.detach() * batch.n_bags)
                slides.append([bag.slide_id for bag in step.bags])
            _check_finite(losses, slides=slides, epoch=epoch)
            mean = torch.stack(losses).sum().item() / len(joined)
            selection = (
                _validation_loss(network, validation, device=device, epoch=epoch) if validation else mean
            )
            # With "last", each epoch counts as better than the one before.
            loss_of_epoch = float(-epoch) if config.training.select == "last" else selection
            best.update(network, loss=loss_of_epoch, epoch=epoch)
            on_epoch(epoch, mean)
        network.load_state_dict(best.state or {})
    return network.eval()


def _check_labels(bags: Sequence[Bag], *, task: TaskConfig) -> None:
    for bag in bags:
        if not 0 <= bag.label < task.n_labels:
            raise BagError(
                f"slide {bag.slide_id}: label {bag.label}; expected 0 to {task.n_labels - 1} in training "
                f"with {task.n_classes} classes; correct it, or leave the slide out"
            )


def _forward(network: BagClassifier, batch: PackedBatch, *, device: Device) -> BagOutput:
    """One forward pass in the precision of the device.

    Autocast caches bfloat16 copies of the weights until it ends: around several steps it would reuse the
    copies of the first.
    """
    with device.autocast():
        return network(batch)


def new_network(
    bags: Sequence[Bag], *, config: ResolvedModelConfig, seed: int, start: BagClassifier | None = None
) -> BagClassifier:
    """The network with which `fit` begins, on the CPU."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return _network(bags, config=config, start=start)


def _split(
    bags: Sequence[Bag], *, config: ResolvedModelConfig, seed: int
) -> tuple[Sequence[Bag], Sequence[Bag]]:
    if config.training.select != "validation":
        return bags, []
    labels, cases = np.array([bag.label for bag in bags]), [bag.case_id for bag in bags]
    n_folds = max(2, round(1 / config.training.validation_share))
    fold = inner_folds(config.task.fold_labels(labels), cases, n_folds=n_folds, seed=seed)[0]
    return [bags[int(i)] for i in fold.train], [bags[int(i)] for i in fold.test]


def _network(
    bags: Sequence[Bag], *, config: ResolvedModelConfig, start: BagClassifier | None
) -> BagClassifier:
    network = BagClassifier(config, instance_shape=bags[0].instances.shape[1:])
    if start is not None:
        network.load_state_dict(start.state_dict())
    elif isinstance(network.embed, FeatureNetwork):
        _standardise(network.embed, bags)
    return network


def _standardise(network: FeatureNetwork, bags: Sequence[Bag]) -> None:
    """Mean and scale over the instances of the training bags, summed in float64, one bag at a time."""
    count = sum(len(bag) for bag in bags)
    mean = np.sum([bag.instances.sum(axis=0, dtype=np.float64) for bag in bags], axis=0) / count
    squares = np.sum([((bag.instances - mean) ** 2).sum(axis=0) for bag in bags], axis=0)
    scale = np.sqrt(squares / count)
    scale = np.where(scale > 1e-8, scale, 1.0)
    network.standardise_by(mean=mean.astype(np.float32), scale=scale.astype(np.float32))


def _adam(network: BagClassifier, *, config: ResolvedModelConfig) -> torch.optim.Adam:
    training = config.training
    return torch.optim.Adam(
        network.parameters(), lr=training.lr, weight_decay=training.weight_decay, fused=True
    )


def class_weights(bags: Sequence[Bag], *, config: ResolvedModelConfig) -> Float[Tensor, "*answer"]:
    """Weight of a bag of each class in the loss; its mean over the bags is 1.

    In a multi-label study: weight of each answer, no and yes, in each branch, as of two classes.
    """
    n_classes = config.task.n_classes
    if config.task.multi_label:
        return _answer_weights(bags, config=config)
    counts = np.bincount([bag.label for bag in bags], minlength=n_classes)
    if config.training.balance != "loss" or counts.min() == 0:
        return torch.ones(n_classes)
    return torch.tensor(counts.sum() / (n_classes * counts), dtype=torch.float32)


def _answer_weights(bags: Sequence[Bag], *, config: ResolvedModelConfig) -> Float[Tensor, "answer branch"]:
    yes = config.task.answers(np.array([bag.label for bag in bags]))
    counts = np.stack([(~yes).sum(axis=0), yes.sum(axis=0)])
    is_weighed = (counts > 0).all(axis=0) & (config.training.balance == "loss")
    weights = np.where(is_weighed, len(bags) / (2 * np.maximum(counts, 1)), 1.0)
    return torch.tensor(weights, dtype=torch.float32)


@torch.no_grad()
def _validation_loss(network: BagClassifier, bags: Sequence[Bag], *, device: Device, epoch: int) -> float:
    network.eval()
    ones = torch.ones_like(class_weights(bags, config=network.config), device=device.name)
    losses: list[Tensor] = []
    for bag in bags:
        batch = pack([bag], device=device.name)
        output = _forward(network, batch, device=device)
        losses.append(training_loss(output, batch=batch, config=network.config, class_weight=ones))
    _check_finite(losses, slides=[[bag.slide_id] for bag in bags], epoch=epoch)
    return sum(loss.item() for loss in losses) / len(losses)


def _check_finite(losses: Sequence[Tensor], *, slides: Sequence[Sequence[str]], epoch: int) -> None:
    """Raise TrainingError where a loss is not finite: it names the slides of the first one."""
    values = torch.stack(list(losses))
    broken = torch.nonzero(~torch.isfinite(values))
    if len(broken):
        first = int(broken[0])
        raise TrainingError(
            f"epoch {epoch + 1}, slide {', '.join(slides[first])}: the loss is "
            f"{values[first].item()}, expected a finite number; look for unusual values in the features "
            "of this slide and of the one before it, or lower training.lr"
        )

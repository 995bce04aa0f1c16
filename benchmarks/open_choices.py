"""Choices that the paper leaves open and learning depends on, compared on the training data of one fold.

    python benchmarks/open_choices.py --data DIR --run nuclei  # resumable: nuclei, grid or ucsb
    python benchmarks/open_choices.py --table                  # write docs/open-choices.md and its picture

Each choice is changed alone; the others keep the first of their values. Training: three quarters of the
training bags of the first fold (by group), 40 epochs, at a learning rate that is higher than the paper's by
as much as the epochs are fewer. The other quarter gives the inner-fold AUC. No test fold is read. Rows are
kept in docs/open-choices/, one file for each set.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from hardmil.bags.bag import Bag
from hardmil.bags.folds import inner_folds, repeated_folds
from hardmil.config.model import ResolvedModelConfig, resolve_config
from hardmil.config.study import StudyConfig, model_config
from hardmil.device import find_device
from hardmil.files.csv_table import read_table, write_table
from hardmil.metrics import binary_metrics
from hardmil.mil import training
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier
from hardmil.paper.datasets import published_config, read_published
from hardmil.paper.reproduction import FOLDS

DOCS = Path(__file__).parents[1] / "docs"
KEPT = DOCS / "open-choices"
EPOCHS, EVERY = 40, 4
SETS = {"nuclei": ("colon", "nuclei"), "grid": ("colon", "grid"), "ucsb": ("ucsb", "grid")}
FOLDERS = {"colon": "CRCHistoPhenotypes_2016_04_28", "ucsb": "ucsb_breast"}
CHOICES = {
    "equalise": ("none", "image", "luminance", "channel"),
    "initialisation": ("he", "torch"),
    "scaling": ("-1 to 1", "0 to 1", "standardised"),
    "dropout": ("both layers", "first layer", "last layer"),
    "warm-up": ("none", "4 epochs"),
}


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one training; `auc` is that of the inner fold, NaN where it was not measured."""

    choice: str
    value: str
    inner_fold: int
    epoch: int
    loss: float
    auc: float


class SomeDropout(nn.Module):
    """Dropout after the first or the last of two layers; the network calls it after each."""

    def __init__(self, p: float, *, which: int) -> None:
        super().__init__()
        self.drop, self.which, self.n_calls = nn.Dropout(p), which, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output, with some values set to 0 after one of the two layers."""
        self.n_calls += 1
        return self.drop(x) if (self.n_calls - 1) % 2 == self.which else x


def change(network: BagClassifier, value: str, *, bags: Sequence[Bag]) -> None:
    """Change a new network to this value of initialisation, scaling or dropout."""
    embed = network.embed
    if value == "torch":
        for layer in (embed.conv1, embed.conv2, embed.fc1, embed.fc2):
            layer.reset_parameters()
    elif value in ("first layer", "last layer"):
        embed.dropout = SomeDropout(embed.dropout.p, which=int(value == "last layer"))
    elif value in ("0 to 1", "standardised"):
        pixels = np.concatenate([bag.instances.reshape(-1, 3) for bag in bags])
        mean, std = (0.0, 255.0) if value == "0 to 1" else (pixels.mean(axis=0), pixels.std(axis=0))
        shift, by = (torch.as_tensor(one, dtype=torch.float32) for one in (mean, std))

        def scale(module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
            # The network subtracts 127.5 and divides by it; this is undone beforehand.
            return (inputs[0].float() - shift) / by * 127.5 + 127.5

        embed.register_forward_pre_hook(scale)


def warm_up(optimiser: torch.optim.Optimizer, *, n_steps: int) -> None:
    """Let the learning rate rise linearly over the first steps."""
    group, done = optimiser.param_groups[0], [0]
    full = group["lr"]

    def before_step(*_: object) -> None:
        done[0] += 1
        group["lr"] = full * min(1.0, done[0] / n_steps)

    optimiser.register_step_pre_hook(before_step)


@contextmanager
def as_chosen(value: str, *, bags: Sequence[Bag]) -> Iterator[list[BagClassifier]]:
    """Train with this value inside the block; the list receives the network that is being trained."""
    made: list[BagClassifier] = []
    build, adam = training._network, training._adam

    def build_changed(*arguments: object, **settings: object) -> BagClassifier:
        made.append(build(*arguments, **settings))
        change(made[-1], value, bags=bags)
        return made[-1]

    def adam_with_warm_up(*arguments: object, **settings: object) -> torch.optim.Optimizer:
        optimiser = adam(*arguments, **settings)
        if value == "4 epochs":
            warm_up(optimiser, n_steps=4 * len(bags))
        return optimiser

    with (
        patch.object(training, "_network", build_changed),
        patch.object(training, "_adam", adam_with_warm_up),
    ):
        yield made


def train_once(
    bags: Sequence[Bag], inner: Sequence[Bag], *, config: ResolvedModelConfig, value: str
) -> list[tuple[float, float]]:
    """Loss and inner-fold AUC after each epoch of one training."""
    labels = np.array([bag.label for bag in inner])
    curve: list[tuple[float, float]] = []
    with as_chosen(value, bags=bags) as made:

        def keep(epoch: int, loss: float) -> None:
            auc = np.nan
            if (epoch + 1) % EVERY == 0:
                scores = np.array([one.bag_score for one in score_bags(made[0], inner)])
                auc = binary_metrics(labels, scores).auc
            curve.append((loss, auc))

        training.fit(bags, config=config, device=find_device("cpu"), on_epoch=keep)
    return curve


def study_of(name: str, *, equalise: str) -> StudyConfig:
    """The paper's settings for this set with this equalisation, in 40 epochs."""
    data, mode = SETS[name]
    study = published_config(data)
    whole = resolve_config(model_config(study), kind="pixels").training
    patches = study.patches.model_copy(update={"mode": mode, "equalise": equalise})
    lr = whole.lr * whole.epochs / EPOCHS
    shorter = study.training.model_copy(update={"epochs": EPOCHS, "lr": lr})
    return study.model_copy(update={"patches": patches, "training": shorter})


def training_bags(name: str, *, data: Path, study: StudyConfig) -> list[Bag]:
    """The training bags of the first fold by group; its test bags are dropped here."""
    found = read_published(
        SETS[name][0], folder=data / FOLDERS[SETS[name][0]], split="group", config=study.patches
    )
    labels, cases = np.array([bag.label for bag in found.bags]), [bag.case_id for bag in found.bags]
    folds = repeated_folds(labels, cases, n_folds=FOLDS[SETS[name][0]], n_repeats=1, seed=0)
    return [found.bags[int(i)] for i in folds[0][0].train]


def run_missing(
    name: str, *, data: Path, choices: Sequence[str], equalise: str, n_inner: int, say: Callable[[str], None]
) -> None:
    """Run the trainings of this set that have no rows yet; each is written when it ends."""
    path = KEPT / f"{name}.csv"
    for fold_number in range(n_inner):
        for choice in choices:
            for value in CHOICES[choice]:
                rows = read_table(path, EpochRow)
                if any(
                    (one.choice, one.value, one.inner_fold) == (choice, value, fold_number) for one in rows
                ):
                    continue
                study = study_of(name, equalise=value if choice == "equalise" else equalise)
                bags = training_bags(name, data=data, study=study)
                labels, cases = np.array([bag.label for bag in bags]), [bag.case_id for bag in bags]
                fold = inner_folds(labels, cases, n_folds=4, seed=0)[fold_number]
                curve = train_once(
                    [bags[int(i)] for i in fold.train],
                    [bags[int(i)] for i in fold.test],
                    config=resolve_config(model_config(study), kind="pixels"),
                    value=value,
                )
                found = [
                    EpochRow(choice, value, fold_number, epoch + 1, round(loss, 5), round(auc, 4))
                    for epoch, (loss, auc) in enumerate(curve)
                ]
                write_table(path, [*rows, *found], row=EpochRow)
                say(
                    f"{name}, {choice} {value}, inner fold {fold_number}: loss {found[-1].loss}, AUC {found[-1].auc}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder that holds both data sets")
    parser.add_argument("--run", choices=SETS, help="which set to train on")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument(
        "--equalise", choices=CHOICES["equalise"], default="none", help="for the other choices"
    )
    parser.add_argument("--inner-folds", type=int, default=1, help="how many of the four inner folds to run")
    options = parser.parse_args()
    if options.run:
        if options.data is None:
            parser.error("--run needs --data")
        run_missing(
            options.run,
            data=options.data,
            choices=options.choices,
            equalise=options.equalise,
            n_inner=options.inner_folds,
            say=lambda line: print(line, flush=True),
        )


if __name__ == "__main__":
    main()

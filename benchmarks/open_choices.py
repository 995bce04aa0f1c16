"""Choices that the paper leaves open and learning depends on, compared on the training data of one fold.

    python benchmarks/open_choices.py --data DIR --run nuclei  # resumable: nuclei, grid or ucsb
    python benchmarks/open_choices.py --table                  # write docs/open-choices.md and its picture

Each choice is changed alone; the others keep the first of their values. Training: three quarters of the
training bags of the first fold (by group), 40 epochs, at a learning rate that is higher than the paper's by
as much as the epochs are fewer. The other quarter gives the inner-fold AUC. No test fold is read. Rows are
kept in docs/open-choices/, one file for each set.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from reproduction_runs import FOLDERS
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
COMMAND = "benchmarks/open_choices.py --table"
EPOCHS, EVERY = 40, 4
SETS = {"nuclei": ("colon", "nuclei"), "grid": ("colon", "grid"), "ucsb": ("ucsb", "grid")}
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


def run_missing(name: str, *, data: Path, choices: Sequence[str], equalise: str, n_inner: int) -> None:
    """Run the trainings of this set that have no rows yet; the rows of each are written when it ends."""
    path = KEPT / f"{name}.csv"
    for number in range(n_inner):
        for choice, value in ((one, value) for one in choices for value in CHOICES[one]):
            rows = read_table(path, EpochRow)
            if (choice, value, number) in {(row.choice, row.value, row.inner_fold) for row in rows}:
                continue
            found: list[EpochRow] = []
            if choice != "equalise" and value == CHOICES[choice][0]:
                # That is what the chosen equalisation was trained with.
                known = [row for row in rows if (row.choice, row.value) == ("equalise", equalise)]
                found = [
                    replace(row, choice=choice, value=value) for row in known if row.inner_fold == number
                ]
            found = found or run_one(name, choice, value, number=number, data=data, equalise=equalise)
            write_table(path, [*rows, *found], row=EpochRow)
            last = found[-1]
            print(f"{name}, {choice} {value}, inner fold {number}: {last.loss}, AUC {last.auc}", flush=True)


def run_one(name: str, choice: str, value: str, *, number: int, data: Path, equalise: str) -> list[EpochRow]:
    """Train with one value of one choice, scored on one inner fold; a row for each epoch."""
    study = study_of(name, equalise=value if choice == "equalise" else equalise)
    bags = training_bags(name, data=data, study=study)
    labels, cases = np.array([bag.label for bag in bags]), [bag.case_id for bag in bags]
    fold = inner_folds(labels, cases, n_folds=4, seed=0)[number]
    training_part, inner = ([bags[int(i)] for i in side] for side in (fold.train, fold.test))
    config = resolve_config(model_config(study), kind="pixels")
    curve = train_once(training_part, inner, config=config, value=value)
    return [
        EpochRow(choice, value, number, epoch, round(loss, 5), round(auc, 4))
        for epoch, (loss, auc) in enumerate(curve, 1)
    ]


def results() -> list[tuple[str, str, str, int, float, float, float]]:
    """Set, choice, value, inner folds; last loss; AUC at the end, and mean AUC of the last five measured."""
    found: list[tuple[str, str, str, int, float, float, float]] = []
    for name in SETS:
        rows = read_table(KEPT / f"{name}.csv", EpochRow)
        for choice, values in CHOICES.items():
            for value in values:
                mine = [row for row in rows if (row.choice, row.value) == (choice, value)]
                if not mine:
                    continue
                loss = np.mean([row.loss for row in mine if row.epoch == EPOCHS])
                late = [row.auc for row in mine if np.isfinite(row.auc) and row.epoch > EPOCHS - 5 * EVERY]
                end = np.mean([row.auc for row in mine if row.epoch == EPOCHS])
                folds = len({row.inner_fold for row in mine})
                found.append((name, choice, value, folds, float(loss), float(end), float(np.mean(late))))
    return found


def write_page() -> None:
    """Write docs/open-choices.md and its picture from the kept rows."""
    lines = [
        f"<!-- Generated by `{COMMAND}`; do not edit. -->",
        "",
        "# Choices that the paper leaves open",
        "",
        f"Generated by `{COMMAND}` from the rows in [open-choices/](open-choices/).",
        f"Loss: training loss of epoch {EPOCHS}. AUC: of the inner fold, after that epoch; late AUC: mean",
        f"of the last five measurements, one every {EVERY} epochs. Only training bags of the first fold by",
        "group were used ([decision](decisions/0012-equalisation.md)).",
        "",
        "![Training loss and inner-fold AUC of each choice](open-choices/curves.png)",
        "",
        "| set | choice | value | inner folds | loss | AUC | late AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, choice, value, folds, loss, end, late in results():
        lines.append(f"| {name} | {choice} | {value} | {folds} | {loss:.3f} | {end:.3f} | {late:.3f} |")
    (DOCS / "open-choices.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    draw_curves(KEPT / "curves.png")


def draw_curves(path: Path) -> None:
    """Training loss (above) and inner-fold AUC (below); a column for each choice, two rows for each set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tables = {name: read_table(KEPT / f"{name}.csv", EpochRow) for name in SETS}
    shown = [name for name in SETS if tables[name]]
    choices = [one for one in CHOICES if any(row.choice == one for name in shown for row in tables[name])]
    figure, axes = pyplot.subplots(
        2 * len(shown),
        len(choices),
        figsize=(3.1 * len(choices), 4.2 * len(shown)),
        sharex=True,
        squeeze=False,
    )
    for line, name in enumerate(shown):
        for column, choice in enumerate(choices):
            above, below = axes[2 * line, column], axes[2 * line + 1, column]
            if not any(row.choice == choice for row in tables[name]):
                above.axis("off")
                below.axis("off")
                continue
            for number, value in enumerate(CHOICES[choice]):
                mine = [row for row in tables[name] if (row.choice, row.value) == (choice, value)]
                for fold in sorted({row.inner_fold for row in mine}):
                    curve = [row for row in mine if row.inner_fold == fold]
                    label = value if fold == 0 else None
                    above.plot(
                        [row.epoch for row in curve], [row.loss for row in curve], f"C{number}", label=label
                    )
                    measured = [row for row in curve if np.isfinite(row.auc)]
                    below.plot([row.epoch for row in measured], [row.auc for row in measured], f"C{number}")
            above.set_title(f"{name}: {choice}", fontsize=9)
            above.set_ylim(0, 1.2)
            below.set_ylim(0.35, 1.03)
            above.legend(fontsize=7, frameon=False)
        axes[2 * line, 0].set_ylabel("training loss")
        axes[2 * line + 1, 0].set_ylabel("inner-fold AUC")
    for column in range(len(choices)):
        axes[-1, column].set_xlabel("epoch")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder that holds both data sets")
    parser.add_argument("--run", choices=SETS, help="which set to train on")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument(
        "--equalise", choices=CHOICES["equalise"], default="none", help="for the other choices"
    )
    parser.add_argument("--inner-folds", type=int, default=1, help="how many of the four inner folds to run")
    parser.add_argument("--table", action="store_true", help="write docs/open-choices.md and its picture")
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
        )
    if options.table:
        write_page()


if __name__ == "__main__":
    main()

"""Does a model respect the MIL assumption? Three problems with a shortcut that is wrong in the test.

    python benchmarks/mil_assumption.py            # run the missing rows, then write the page
    python benchmarks/mil_assumption.py --table    # write the page of the kept rows

Rows are kept in docs/mil-assumption/results.csv, the tables in docs/mil-assumption.md. To compare a further
arm, add its name to ARMS: only its rows are run. A row is also run again if its bags or the settings of its
arm changed. A change of the code, or of the default of a setting, is not noticed: delete the file then.

Source: Raff and Holt 2023, Reproducibility in Multiple Instance Learning: A Case For Algorithmic Unit Tests.
The page lists the departures from it.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from hardmil.bags.bag import Bag
from hardmil.config.model import TrainingConfig
from hardmil.config.study import StudyConfig
from hardmil.device import find_device
from hardmil.evaluation.arms import Arm, arm
from hardmil.files.csv_table import read_table, write_table
from hardmil.metrics import MeanSE, binary_metrics, mean_and_se
from hardmil.mil.inference import score_bags
from hardmil.mil.network import BagClassifier
from hardmil.mil.training import fit
from hardmil.mining.procedure import train_and_mine

ARMS = (
    "ours", "abmil", "gated", "mean", "max", "noisy-and", "quantile",
    "ours+instance", "ours+instance-hardest", "abmil+instance", "abmil+instance-hardest",
    "linear", "conjunctive", "topk", "em", "ours-top5", "ours-masktop", "ours+rank", "ours+pseudo",
)  # fmt: skip
SEEDS = range(5)
DIM, N_TRAIN, N_TEST = 16, 1000, 400
"""Length of an instance; number of bags, half of them positive."""

STUDY = StudyConfig(training=TrainingConfig(epochs=20, lr=3e-3, bags_per_step=16, precision="float32"))
CPU = find_device("cpu", precision="float32")
DOCS = Path(__file__).parents[1] / "docs"
ROWS, PAGE = DOCS / "mil-assumption" / "results.csv", DOCS / "mil-assumption.md"
Part = Literal["train", "new", "test"]
PARTS: dict[Part, int] = {"train": N_TRAIN, "new": N_TEST, "test": N_TEST}
"""The bags of a problem; `new` are drawn like those of `train`."""


class Kind(IntEnum):
    """What an instance is."""

    BACKGROUND = 0
    FIRST = 1
    SECOND = 2
    POISON = 3


@dataclass(frozen=True)
class Normal:
    """The distribution of each feature of an instance; features are independent."""

    mean: float
    std: float


BACKGROUND, POISON = Normal(0.0, 1.0), Normal(-10.0, 0.1)
Counts = Mapping[Kind, int]
"""Instances of each kind in a bag."""


@dataclass(frozen=True)
class Problem:
    """A rule for labels, a shortcut that is wrong in the test, and the distributions of the two concepts.

    `needs` is `any` or `all`: a bag is positive if it has an instance of any concept, or of all. `counts`
    draws the instances of each kind for a bag of a label, in training or in the test.
    """

    title: str
    shortcut: str
    first: Normal
    second: Normal
    needs: Callable[[Iterable[bool]], bool]
    counts: Callable[..., Counts]


def one_concept(rng: np.random.Generator, *, positive: bool, test: bool) -> Counts:
    """Positive: 1 to 3 instances of either concept. Poison: in negative training and positive test bags."""
    n = int(rng.integers(1, 4)) if positive else 0
    n_first = int(rng.binomial(n, 0.5))
    poison = int(positive == test)
    return {Kind.BACKGROUND: 10, Kind.FIRST: n_first, Kind.SECOND: n - n_first, Kind.POISON: poison}


def both_concepts(rng: np.random.Generator, *, positive: bool, test: bool) -> Counts:
    """Positive: 1 to 3 instances of each concept; negative: one of either. Poison as in `one_concept`."""
    n, chosen = int(rng.integers(1, 4)), int(rng.integers(2))
    concepts = (n, n) if positive else (1 - chosen, chosen)
    return _with_background(rng, concepts=concepts, poison=int(positive == test))


def false_frequency(rng: np.random.Generator, *, positive: bool, test: bool) -> Counts:
    """Positive: one instance of each concept; negative: one of either, but 35 to 44 of it in the test."""
    chosen, often = int(rng.integers(2)), int(rng.integers(35, 45)) if test else 1
    concepts = (1, 1) if positive else (often * (1 - chosen), often * chosen)
    return _with_background(rng, concepts=concepts, poison=0)


def _with_background(rng: np.random.Generator, *, concepts: tuple[int, int], poison: int) -> Counts:
    n, (first, second) = int(rng.integers(1, 10)), concepts
    return {Kind.BACKGROUND: n, Kind.FIRST: first, Kind.SECOND: second, Kind.POISON: poison}


PROBLEMS = {
    "one-concept": Problem(
        "One concept, poisoned",
        "training: a poison instance in each negative bag, none in positive bags; test: the reverse",
        Normal(0.0, 3.0),
        Normal(1.0, 1.0),
        any,
        one_concept,
    ),
    "both-concepts": Problem(
        "Both concepts, poisoned",
        "the same poison",
        Normal(2.0, 0.1),
        Normal(3.0, 0.1),
        all,
        both_concepts,
    ),
    "false-frequency": Problem(
        "False frequency",
        "training: two concept instances in a positive bag, one in a negative bag; "
        "test: 35 to 44 of one concept in a negative bag",
        Normal(2.0, 0.1),
        Normal(3.0, 0.1),
        all,
        false_frequency,
    ),
}


@dataclass(frozen=True, eq=False)
class DrawnBag:
    """A bag and what each of its instances is.

    The kinds are kept apart from the bag: `Bag.instance_labels` would be used in training.
    """

    bag: Bag
    kinds: Int[np.ndarray, " instance"]


def draw_bags(name: str, *, part: Part, seed: int, n: int | None = None) -> list[DrawnBag]:
    """The bags of one part of a problem, negative and positive in turn.

    Args:
        name: The problem, a key of PROBLEMS.
        part: Training bags, new bags like them, or test bags.
        seed: Every part of every problem has its own random numbers for this seed.
        n: Number of bags; that of PARTS by default.
    """
    rng = np.random.default_rng([seed, list(PROBLEMS).index(name), list(PARTS).index(part)])
    return [
        _draw(rng, problem=PROBLEMS[name], label=i % 2, test=part == "test", slide_id=f"{part}-{i}")
        for i in range(PARTS[part] if n is None else n)
    ]


def _draw(rng: np.random.Generator, *, problem: Problem, label: int, test: bool, slide_id: str) -> DrawnBag:
    counts = problem.counts(rng, positive=label == 1, test=test)
    kinds = np.repeat(list(counts.keys()), list(counts.values()))
    normals = np.array([(one.mean, one.std) for one in (BACKGROUND, problem.first, problem.second, POISON)])
    mean, std = normals[kinds].T
    instances = mean[:, None] + std[:, None] * rng.normal(size=(len(kinds), DIM))
    coords = np.zeros((len(kinds), 2), dtype=np.int64)
    return DrawnBag(Bag(slide_id, slide_id, label, instances.astype(np.float32), coords, 0), kinds)


@dataclass(frozen=True)
class AucRow:
    """One training: a row of docs/mil-assumption/results.csv. `settings` is a hash of bags and settings."""

    problem: str
    arm: str
    seed: int
    settings: str
    train: float
    new: float
    test: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        """Problem, arm and seed."""
        return self.problem, self.arm, self.seed


def settings_of(one: Arm, *, bags: Mapping[Part, Sequence[Bag]]) -> str:
    """A hash of the bags and the settings of the arm; settings that have their default are left out.

    A setting that is added to hardmil later therefore changes no hash of the existing arms.
    """
    content = sha256()
    for section in (one.model, one.mining):
        content.update(section.model_dump_json(exclude_defaults=True).encode())
    for bag in (bag for part in bags.values() for bag in part):
        content.update(bytes([bag.label]) + bag.instances.tobytes())
    return content.hexdigest()[:12]


def run_missing(rows: Sequence[AucRow], *, keep: Callable[[Sequence[AucRow]], None]) -> None:
    """Train each arm on each problem and seed that has no row of these settings; keep the rows after each."""
    known = {row.key: row for row in rows}
    for name in PROBLEMS:
        for seed in SEEDS:
            drawn = {part: draw_bags(name, part=part, seed=seed) for part in PARTS}
            bags = {part: [one.bag for one in of_part] for part, of_part in drawn.items()}
            for one in (arm(arm_name, study=STUDY, kind="features") for arm_name in ARMS):
                key, settings = (name, one.name, seed), settings_of(one, bags=bags)
                if key not in known or known[key].settings != settings:
                    known[key] = _run(one, problem=name, seed=seed, bags=bags, settings=settings)
                    keep(list(known.values()))


def _run(one: Arm, *, problem: str, seed: int, bags: Mapping[Part, Sequence[Bag]], settings: str) -> AucRow:
    started, train = time.perf_counter(), partial(fit, device=CPU)
    network = train_and_mine(bags["train"], config=one.model, mining=one.mining, seed=seed, train=train).model
    aucs = {part: auc(network, of_part) for part, of_part in bags.items()}
    seconds = round(time.perf_counter() - started, 1)
    return AucRow(problem, one.name, seed, settings, aucs["train"], aucs["new"], aucs["test"], seconds)


def auc(network: BagClassifier, bags: Sequence[Bag]) -> float:
    """AUC of the bag scores."""
    scores: Float[np.ndarray, " bag"] = np.array([one.bag_score for one in score_bags(network, bags)])
    return binary_metrics(np.array([bag.label for bag in bags]), scores).auc


def keep_rows(rows: Sequence[AucRow]) -> None:
    """Write the rows, sorted by problem, arm and seed."""
    arms = [*ARMS, *sorted({row.arm for row in rows} - set(ARMS))]
    order = {key: i for i, key in enumerate((p, a, s) for p in PROBLEMS for a in arms for s in SEEDS)}
    ROWS.parent.mkdir(exist_ok=True)
    write_table(ROWS, sorted(rows, key=lambda row: order.get(row.key, len(order))), row=AucRow)


def verdict(test: MeanSE) -> str:
    """What the mean test AUC says: its 95% interval over the seeds is above 0.5, below it, or contains it."""
    half = float(stdtrit(test.n_used - 1, 0.975)) * test.se
    if test.mean - half > 0.5:
        return "passes"
    return "fails" if test.mean + half < 0.5 else "unclear"


def page(rows: Sequence[AucRow]) -> list[str]:
    """Markdown: the text, the verdicts of each arm, and the AUCs on each problem."""
    found = {
        (arm_name, name): [row for row in rows if (row.arm, row.problem) == (arm_name, name)]
        for arm_name in ARMS
        for name in PROBLEMS
    }
    shown = [arm_name for arm_name in ARMS if all(len(found[arm_name, name]) > 1 for name in PROBLEMS)]
    lines = [*HEAD.split("\n"), *_problem_table(), *NOTES.split("\n")]
    lines += [_line("arm", *PROBLEMS), "|---" * (1 + len(PROBLEMS)) + "|"]
    for arm_name in shown:
        cells = [verdict(mean_and_se(row.test for row in found[arm_name, name])) for name in PROBLEMS]
        lines.append(_line(f"`{arm_name}`", *cells))
    for name, problem in PROBLEMS.items():
        lines += ["", f"## {problem.title}", "", *_table({one: found[one, name] for one in shown})]
    minutes = sum(row.seconds for of_arm in found.values() for row in of_arm) / 60
    return [*lines, "", f"All rows took {minutes:.0f} minutes on one core that other programs used too.", ""]


def _table(by_arm: Mapping[str, Sequence[AucRow]]) -> list[str]:
    heads = ("arm", "train AUC", "AUC on new bags like those", "test AUC", "test AUC below 0.5", "verdict")
    lines = [_line(*heads), "|---" * len(heads) + "|"]
    for arm_name, rows in by_arm.items():
        train, new, test = (
            mean_and_se(getattr(row, part) for row in rows) for part in ("train", "new", "test")
        )
        below = f"{sum(row.test < 0.5 for row in rows)} of {len(rows)}"
        cells = [f"{one.mean:.3f} ± {one.se:.3f}" for one in (train, new, test)]
        lines.append(_line(f"`{arm_name}`", *cells, below, verdict(test)))
    return lines


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _problem_table() -> list[str]:
    lines = [_line("problem", "positive if the bag contains", "concepts", "shortcut"), "|---" * 4 + "|"]
    for name, one in PROBLEMS.items():
        rule = "an instance of either concept" if one.needs is any else "instances of both concepts"
        concepts = ", ".join(f"N({concept.mean:g}, {concept.std:g})" for concept in (one.first, one.second))
        lines.append(_line(f"`{name}`", rule, concepts, one.shortcut))
    return lines


HEAD = f"""<!-- Generated by `python benchmarks/mil_assumption.py --table`; do not edit. -->

# Does the model respect the MIL assumption?

Three problems in the manner of Raff and Holt (*Reproducibility in Multiple Instance Learning: A Case For
Algorithmic Unit Tests*, NeurIPS 2023). Each has a rule for labels, and a shortcut that agrees with the labels
in training and contradicts them in the test. A model that takes the shortcut has a high train AUC and a test
AUC below 0.5. What follows for hardmil: [method.md](method.md#does-the-model-respect-the-mil-assumption).

An instance is a vector of {DIM} independent normal features, N(mean, standard deviation). Background is
N(0, 1), poison is N(-10, 0.1). Each bag contains background.
"""
NOTES = f"""
- **Counts.** Half of the bags are positive. `one-concept`: 10 of background; in positive bags 1 to 3 of the
  concepts. `both-concepts`: 1 to 9 of background; in positive bags 1 to 3 of each concept, in negative bags
  one of one concept. `false-frequency`: 1 to 9 of background; in positive bags one of each concept.
- **Training.** {N_TRAIN:,} bags, {STUDY.training.epochs} epochs, {STUDY.training.bags_per_step} bags a step,
  learning rate {STUDY.training.lr:g}, otherwise the defaults for features; {len(SEEDS)} seeds. Test and new
  bags: {N_TEST} each. New bags are drawn like the training bags: their AUC shows what was not memorised.
- **Verdict.** *Passes*: the 95% interval of the mean test AUC (t, over seeds) is above 0.5. *Fails*: it is
  below. *Unclear*: it contains 0.5. To pass is not to solve a problem: see the test AUC itself.
- **What can be learned.** A maximum of instance logits cannot express "both concepts". If it ranks by the
  better concept and the larger of several draws, its AUC is 0.82 on `both-concepts`, in training and in the
  test; on `false-frequency` it is 0.75 in training and 0.51 in the test. In mean and attention poolings
  (without Eq. 2), instances add up, for and against the positive class. With 1 to 9 of background, no such
  sum separates `false-frequency` even in training.

Departures from the paper:

- Its full text was not available. The problems follow its abstract, a public summary, and the parameters of
  the public implementation in torchmil. No code was copied.
- Ends of ranges are read as in Python: U(1, 4) is 1 to 3. The second number of a normal is read as its
  standard deviation.
- In a negative bag of `false-frequency`, the repeated concept is either of the two.
- Dimension, numbers of bags and seeds, the background of `one-concept` and the training are our choice.
- The AUC on new bags and the interval in the verdict were added. The paper's rule, as far as known, is a test
  AUC above or below 0.5.

## Verdicts
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="only write the page of the kept rows")
    options = parser.parse_args()
    if not options.table:
        run_missing(read_table(ROWS, AucRow), keep=keep_rows)
    PAGE.write_text("\n".join(page(read_table(ROWS, AucRow))), encoding="utf-8")


if __name__ == "__main__":
    main()

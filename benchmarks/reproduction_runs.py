"""The experiments behind docs/reproduction.md: what is run, where, and how rows are kept.

Used by benchmarks/reproduction.py.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardmil.commands.reproduce import reproduce
from hardmil.evaluation.results import TRIAL_COLUMNS, PredictionRow, ResultRow, TrialKey, key_of
from hardmil.files.csv_table import read_table, write_table
from hardmil.jobs.pool import LOCAL, Engine
from hardmil.paper.datasets import published_config, read_published
from hardmil.paper.packed import write_packed
from hardmil.paper.reproduction import Reproduction

KEPT = Path(__file__).parents[1] / "docs" / "reproduction"
KEPT_PREDICTIONS = (*TRIAL_COLUMNS, "slide_id", "case_id", "label", "bag_score", "op_prediction")
LITE0 = "efficientnet-lite0"
FIRST = ("abmil", "mean", "ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance")
SECOND = (
    *("gated", "max", "noisy-and", "quantile", "ours+sb", "ours+mb", "ours+fmb"),
    *("ours+fmb-oof-continue", "ours+fmb-oof-continue@random"),
    *("ours+fmb-equal-oof", "ours+fmb-stratified-oof", "ours+fmb-oof-rounds"),
    *("ours+inject-positive-oof", "ours+inject-positive-oof@random"),
    *("ours+inject-oof", "ours+inject-oof@random", "ours+inject-negative-oof"),
    *("ours+weigh-oof", "ours+weigh-oof@random", "ours+instance-hardest"),
    *("ours+instance+inject-positive-oof", "ours+instance+inject-positive-oof@random"),
)
CHOICES = ("attention", "random", "uncertainty", "spread", "disagreement")
BUDGETS = (2, 5, 10, 20)
VERDICTS = tuple(f"ours+instance+verdicts-{n}-{choice}" for choice in CHOICES for n in BUDGETS)
WITHOUT_VERDICTS = "ours+instance"
CNN = ("abmil", "ours", "ours+fmb-oof", "ours+fmb-oof@random")
NO_OPERATING_POINT = ("evaluation.operating_folds=0",)
EACH_CHANNEL = ("patches.equalise=channel",)
CNN_SETTINGS = ("training.lr=1.5e-4", *NO_OPERATING_POINT, *EACH_CHANNEL)
# The baselines that the paper quotes: plain attention on colon, gated attention on UCSB.
QUOTED = {"colon": "abmil", "ucsb": "gated"}
PAPER_MINING = ("ours", "ours+sb", "ours+mb", "ours+fmb")
OUT_OF_FOLD = ("ours+sb-oof", "ours+mb-oof", "ours+fmb-oof", "ours+instance")
FOLDERS = {"colon": "CRCHistoPhenotypes_2016_04_28", "ucsb": "ucsb_breast"}
PACKED = (("colon", "nuclei"), ("colon", "grid"), ("ucsb", "grid"))


@dataclass(frozen=True)
class Experiment:
    """One call of `hardmil reproduce`: data set, split, arms and number of repeats."""

    data: str
    split: str
    arms: Sequence[str]
    repeats: int = 5
    patches: str = "grid"
    encoder: str | None = LITE0
    epochs: int | None = None
    overrides: Sequence[str] = ()


def _paper(data: str, split: str, *, patches: str, arms: Sequence[str] = PAPER_MINING) -> Experiment:
    """The paper's CNN from pixels, at full length."""
    names = (QUOTED[data], *arms) if arms == PAPER_MINING else tuple(arms)
    return Experiment(data, split, names, patches=patches, encoder=None, overrides=NO_OPERATING_POINT)


RUNS = {
    # The paper's tables, in the order in which they matter most. Without an operating point.
    "paper": [_paper("colon", "image", patches="nuclei"), _paper("ucsb", "image", patches="grid")],
    "paper-group": [_paper("colon", "group", patches="nuclei"), _paper("ucsb", "group", patches="grid")],
    "paper-grid": [_paper("colon", "image", patches="grid"), _paper("colon", "group", patches="grid")],
    "paper-oof": [
        _paper(data, split, patches=patches, arms=OUT_OF_FOLD)
        for split in ("image", "group")
        for data, patches in (("colon", "nuclei"), ("ucsb", "grid"))
    ],
    "frozen": [Experiment(data, split, FIRST) for split in ("group", "image") for data in ("ucsb", "colon")],
    # From here on: one repeat and no operating point, which would take four times as long.
    "frozen-more": [
        Experiment(data, split, SECOND, repeats=1, overrides=NO_OPERATING_POINT)
        for split in ("group", "image")
        for data in ("colon", "ucsb")
    ],
    "nuclei": [
        Experiment("colon", split, FIRST, repeats=1, patches="nuclei", overrides=NO_OPERATING_POINT)
        for split in ("group", "image")
    ],
    "verdicts": [Experiment("colon", "group", VERDICTS, repeats=1, overrides=NO_OPERATING_POINT)],
    "sdr-svm": [
        Experiment("ucsb", split, ("sdr-svm",), encoder=None, overrides=EACH_CHANNEL)
        for split in ("group", "image")
    ],
    # Reduced: the paper uses 5 repeats of 120 epochs at 5e-5.
    "cnn": [Experiment("colon", "group", CNN, repeats=1, encoder=None, epochs=40, overrides=CNN_SETTINGS)],
}


@dataclass(frozen=True)
class Where:
    """Where an experiment runs. With `is_trial`, only a little of it, and no row is kept."""

    data: Path
    output: Path
    device: str | None = None
    engine: Engine = LOCAL
    repeats_at_once: bool = False
    is_trial: bool = False


def run_missing(experiments: Sequence[Experiment], where: Where) -> None:
    """Run the missing trials, and keep their rows: after each repeat, or after all of them."""
    most = 1 if where.is_trial else max(one.repeats for one in experiments)
    for repeats in [most] if where.repeats_at_once else range(1, most + 1):
        for one in (one for one in experiments if one.repeats >= repeats or where.repeats_at_once):
            run_experiment(one, where, repeats=min(repeats, one.repeats))


def run_experiment(one: Experiment, where: Where, *, repeats: int) -> None:
    """Run one experiment up to this repeat."""
    folder = where.output / one.data
    protocol = Reproduction(
        folds=2 if where.is_trial else None,
        repeats=repeats,
        epochs=1 if where.is_trial else one.epochs,
        arms=tuple(one.arms),
        split=one.split,
        patches=one.patches,
        encoder=one.encoder,
    )
    if not where.is_trial:
        for name in ("results", "predictions"):
            _start_from(KEPT / one.data / f"{name}.csv", folder / f"{name}.csv")
    outcome = reproduce(
        one.data,
        data=source_of(one, data=where.data),
        output=folder,
        protocol=protocol,
        overrides=one.overrides,
        device=where.device,
        engine=where.engine,
    )
    print("\n".join(outcome.lines), flush=True)
    if not where.is_trial:
        collect(folder, to=KEPT / one.data)


def is_curve(trial: TrialKey) -> bool:
    """Whether verdict arms are compared on this trial: the one repeat of colon by group they were run on."""
    return (trial.split, trial.patches, trial.repeat) == ("group", f"grid-{LITE0}", 0)


def source_of(one: Experiment, *, data: Path) -> Path:
    """The packed file of the set, if there is one; otherwise its folder."""
    packed = data / f"{one.data}-{one.patches}.h5"
    return packed if packed.exists() else data / FOLDERS[one.data]


def pack(data: Path, *, to: Path) -> None:
    """Write the three sets of patches that the paper's CNN sees, one file each."""
    for name, mode in PACKED:
        settings = published_config(name).patches.model_copy(update={"mode": mode, "equalise": "none"})
        sets = {
            split: read_published(name, folder=data / FOLDERS[name], split=split, config=settings)
            for split in ("image", "group")
        }
        path = to / f"{name}-{mode}.h5"
        write_packed(path, sets, name=name, config=settings)
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB", flush=True)


def _start_from(kept: Path, path: Path) -> None:
    if kept.exists() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, path)


def collect(folder: Path, *, to: Path, only: str | None = None) -> None:
    """Add the rows of a folder, or of one arm, to the kept rows, in place of those of the same trials."""
    results = [row for row in read_table(folder / "results.csv", ResultRow) if only in (None, row.trial.arm)]
    known = {row.trial for row in results}
    old = [row for row in read_table(to / "results.csv", ResultRow) if row.trial not in known]
    in_order = sorted([*old, *results], key=lambda row: _sort_key(row.trial))
    write_table(to / "results.csv", in_order, row=ResultRow)
    predictions = [
        shortened(row)
        for row in read_table(folder / "predictions.csv", PredictionRow)
        if only in (None, key_of(row).arm)
    ]
    known = {key_of(row) for row in predictions}
    kept = [row for row in read_table(to / "predictions.csv", PredictionRow) if row.trial not in known]
    merged = sorted([*kept, *predictions], key=lambda row: _sort_key(key_of(row)))
    write_table(to / "predictions.csv", merged, row=PredictionRow, columns=KEPT_PREDICTIONS)


def _sort_key(trial: TrialKey) -> tuple[str, str, str, int, int]:
    return trial.patches, trial.split, trial.arm, trial.repeat, trial.fold


def shortened(row: PredictionRow) -> PredictionRow:
    """The row with its score rounded to seven digits: enough to rank bags, at half the file size."""
    return replace(row, bag_score=float(f"{row.bag_score:.7g}"))

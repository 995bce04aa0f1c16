"""`hardmil demo`: a synthetic cohort as real files, then the steps of a real study."""

from pathlib import Path
from typing import Literal

from hardmil.commands.arms_table import align, short
from hardmil.commands.encode import encode
from hardmil.commands.evaluate import evaluate
from hardmil.commands.options import TYPICAL_SEED
from hardmil.commands.patch import patch
from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.model import NetworkConfig, TrainingConfig
from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml, read_study
from hardmil.config.task import MACRO
from hardmil.errors import ConfigError
from hardmil.files.atomic import write_atomically
from hardmil.files.csv_table import read_cells, read_table
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.pool import Engine
from hardmil.jobs.progress import progress
from hardmil.phantom.cohort import THREE_CLASSES, write_cohort
from hardmil.phantom.slide import Foci
from hardmil.preprocessing.process_slides import RunOptions
from hardmil.statistics.intervals import Interval
from hardmil.statistics.summary import SummaryRow
from hardmil.words import count

RUN = "demo"
N_TRAIN, N_TEST = 40, 60
"""Slides of each class."""
SIZE_PX = (900, 680)
FOCI = Foci(n=(1, 3), radius_px=(40.0, 66.0))
"""Slides and foci are smaller than the default of `write_cohort`: 200 slides are drawn in half a minute."""
TRAIN_LOOK_ALIKES = 0.1
"""Share of the negative training slides that have look-alikes; of the held-out ones, half. Normal slides of a
study are often plainer than those of the clinic: their labels alone hardly teach what a look-alike is."""
ARMS = (
    *("ours", "ours-top5", "ours+instance", "ours+instance+verdicts-3"),
    *("ours+fmb-oof", "ours+fmb-oof@random", "ours+fmb-oof-continue", "ours+fmb-oof-continue@random"),
)
CLASS_ARMS = ("ours", "ours+instance", "ours+fmb-oof", "ours+fmb-oof@random")
TWO_WORKERS = Engine(workers=2)
"""Networks this small gain nothing from a second thread, and lose much where other programs run."""
ABOUT = (
    "These slides are synthetic: a program drew them, and it knows where the lesions are, and where the "
    "look-alikes, normal structures that resemble a lesion. They show how hardmil works, not how good it is "
    "on tissue. In arms with verdicts, this knowledge replaces the pathologist, without errors."
)
ABOUT_CLASSES = (
    "These slides are synthetic: a program drew them. Each is normal or has one of two lesions, A and B. "
    "Some have look-alikes, normal structures that resemble the lesion of another class. They show how "
    "hardmil works, not how good it is on tissue."
)
# Synthetic slides have no dust and no cracks; their small holes are fat and vessels.
NO_CLEANING = TissueConfig(min_area_um2=0, max_hole_um2=0, drop_pen=False)


def demo(
    folder: Path, *, seed: int = TYPICAL_SEED, n_classes: Literal[2, 3] = 2, quiet: bool = False
) -> Outcome:
    """Draw the slides unless they exist, then patch, encode and evaluate.

    The last lines are the report and the command that reviews the patches.

    Raises:
        ConfigError: If the folder contains other slides.
        StoreError: If the folder is not writable.
    """
    write_demo_study(folder, seed=seed, n_classes=n_classes, quiet=quiet)
    options = RunOptions(quiet=quiet)
    patched = patch(folder, options=options)
    encoded = encode(folder, options=options)
    compared = evaluate(folder, name=RUN, engine=TWO_WORKERS, quiet=quiet)
    *compared_lines, report = compared.lines
    shown = result_lines(folder / "runs" / RUN, n_classes=n_classes)
    review = f"judge patches in a browser: hardmil review {folder} --run {RUN}"
    lines = [*patched.lines, *encoded.lines, *compared_lines, "", *shown, "", report, review]
    return Outcome(lines, compared.values, compared.failures, compared.log)


def result_lines(run: Path, *, n_classes: int = 2) -> list[str]:
    """What a run of the demo shows: false positives and sensitivity of each arm, and what was mined."""
    found = [one for one in read_table(run / "intervals.csv", Interval) if one.class_name in ("", MACRO)]
    intervals = {(one.arm, one.metric): one for one in found}
    table = [["arm", "false-positive rate", "sensitivity"]]
    mined: list[str] = []
    rows = read_table(run / "summary.csv", SummaryRow)
    for row in (one for one in rows if one.class_name in ("", MACRO)):
        table.append([row.arm, *(_with_limits(intervals[row.arm, name]) for name in ("fpr_op", "sens_op"))])
        share = row.values["mined_look_alikes"]
        if share == share:
            mined.append(f"{row.arm}: {row.n_hard} patches, {share:.0%} of them in look-alikes")
    further = "six of them: docs/phantom.md" if n_classes == 2 else "its files: docs/many-classes.md"
    return [
        f"{N_TEST * n_classes} held-out slides, at the threshold set on the {N_TRAIN * n_classes} training "
        "slides (95% intervals):",
        *align(table),
        f"what was mined from {'negative' if n_classes == 2 else 'wrongly called'} training slides:",
        *mined,
        f"one study of this size shows little; {further}",
    ]


def _with_limits(one: Interval) -> str:
    return f"{short(one.value)} [{short(one.low)}, {short(one.high)}]"


def write_demo_study(folder: Path, *, seed: int, n_classes: Literal[2, 3] = 2, quiet: bool = False) -> None:
    """Draw the slides unless they exist, and write study.yaml.

    Raises:
        ConfigError: If the folder contains other slides.
        StoreError: If the folder is not writable.
    """
    config, n_train, n_test = demo_config(seed, n_classes=n_classes), N_TRAIN * n_classes, N_TEST * n_classes
    if (folder / config.slides).exists():
        _check_slides(folder, table=config.slides, n_expected=n_train + n_test, seed=seed)
    else:
        with progress("drawing slides", total=n_train + n_test, quiet=quiet) as step:
            write_cohort(
                folder,
                n_train=n_train,
                n_test=n_test,
                n_classes=n_classes,
                seed=seed,
                size_px=SIZE_PX,
                foci=FOCI,
                train_look_alikes=TRAIN_LOOK_ALIKES,
                progress=lambda slide_id: step(),
            )
    with write_atomically(folder / FILE_NAME) as draft:
        draft.write_text(commented_yaml(config), encoding="utf-8")


def _check_slides(folder: Path, *, table: str, n_expected: int, seed: int) -> None:
    """Check that the slides in a folder are those of the demo, drawn with this seed."""
    n_found = len(read_cells(folder / table))
    if n_found != n_expected:
        raise ConfigError(
            f"{folder / table}: found {count(n_found, 'slide')}; expected the {n_expected} of the demo; name "
            "another folder with --output"
        )
    found = read_study(folder)[0].seed if (folder / FILE_NAME).exists() else seed
    if found != seed:
        raise ConfigError(
            f"{folder}: its slides were drawn with seed {found}; expected seed {seed}; name another folder "
            f"with --output, or add --seed {found}"
        )


def demo_config(seed: int, *, n_classes: Literal[2, 3] = 2) -> StudyConfig:
    """The settings of the demo: an encoder without weights, 1 um/px, held-out cases from a splits file."""
    is_binary = n_classes == 2
    return StudyConfig(
        about=ABOUT if is_binary else ABOUT_CLASSES,
        seed=seed,
        positive="positive" if is_binary else None,
        classes=None if is_binary else THREE_CLASSES,
        negative=None if is_binary else THREE_CLASSES[0],
        encode="stain-statistics",
        arm="ours",
        patches=PatchConfig(size_px=32, um_per_px=1.0, tissue_rule="s-or-v", tissue=NO_CLEANING),
        network=NetworkConfig(embedding_dim=32),
        training=TrainingConfig(epochs=30, lr=2e-3, bags_per_step=4),
        evaluation=EvaluationConfig(arms=ARMS if is_binary else CLASS_ARMS, splits="."),
    )

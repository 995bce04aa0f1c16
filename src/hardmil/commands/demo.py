"""`hardmil demo`: a synthetic cohort as real files, then the steps of a real study."""

from pathlib import Path

from hardmil.commands.encode import encode
from hardmil.commands.evaluate import evaluate
from hardmil.commands.patch import patch
from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.model import TrainingConfig
from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml
from hardmil.files.atomic import write_atomically
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.progress import progress
from hardmil.phantom.cohort import write_cohort
from hardmil.phantom.slide import Foci
from hardmil.preprocessing.process_slides import RunOptions

N_TRAIN, N_TEST = 80, 120
SIZE_PX = (900, 680)
FOCI = Foci(n=(1, 3), radius_px=(40.0, 66.0))
"""Slides and foci are smaller than the default of `write_cohort`: 200 slides are drawn in half a minute."""
ARMS = (
    *("ours", "ours-top5", "ours+fmb-oof", "ours+fmb-oof@random"),
    *("ours+instance", "ours+instance+verdicts-3"),
)
ABOUT = (
    "These slides are synthetic: they were drawn by a program, which also knows where lesions and look-alikes "
    "are. They show how hardmil works, not how good it is on tissue. Verdicts are given by the program instead "
    "of a pathologist: it never errs."
)
# Synthetic slides have no dust and no cracks; their small holes are fat and vessels.
NO_CLEANING = TissueConfig(min_area_um2=0, max_hole_um2=0, drop_pen=False)


def demo(folder: Path, *, seed: int = 0, quiet: bool = False) -> Outcome:
    """Draw the slides unless they exist, then patch, encode and evaluate; the last line is the report.

    Raises:
        StoreError: If the folder is not writable.
    """
    write_demo_study(folder, seed=seed, quiet=quiet)
    options = RunOptions(quiet=quiet)
    patched = patch(folder, options=options)
    encoded = encode(folder, options=options)
    compared = evaluate(folder, name="demo", quiet=quiet)
    lines = [*patched.lines, *encoded.lines, *compared.lines]
    return Outcome(lines, compared.values, compared.failures, compared.log)


def write_demo_study(folder: Path, *, seed: int, quiet: bool = False) -> None:
    """Draw the slides unless they exist, and write study.yaml.

    Raises:
        StoreError: If the folder is not writable.
    """
    config = demo_config(seed)
    if not (folder / config.slides).exists():
        with progress("drawing slides", total=N_TRAIN + N_TEST, quiet=quiet) as step:
            write_cohort(
                folder,
                n_train=N_TRAIN,
                n_test=N_TEST,
                seed=seed,
                size_px=SIZE_PX,
                foci=FOCI,
                progress=lambda slide_id: step(),
            )
    with write_atomically(folder / FILE_NAME) as draft:
        draft.write_text(commented_yaml(config), encoding="utf-8")


def demo_config(seed: int) -> StudyConfig:
    """The settings of the demo: an encoder without weights, 1 um/px, held-out cases from a splits file."""
    return StudyConfig(
        about=ABOUT,
        seed=seed,
        positive="positive",
        encode="stain-statistics",
        arm="ours",
        patches=PatchConfig(size_px=32, um_per_px=1.0, tissue_rule="s-or-v", tissue=NO_CLEANING),
        training=TrainingConfig(epochs=30, lr=1e-3, bags_per_step=2),
        evaluation=EvaluationConfig(arms=ARMS, splits="."),
    )

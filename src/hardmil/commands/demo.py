"""`hardmil demo`: a synthetic cohort as real files, then the steps of a real study."""

from pathlib import Path

from hardmil.commands.encode import encode
from hardmil.commands.evaluate import evaluate
from hardmil.commands.patch import patch
from hardmil.config.evaluation import EvaluationConfig
from hardmil.config.mining import MiningConfig
from hardmil.config.model import NetworkConfig, TrainingConfig
from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import FILE_NAME, commented_yaml
from hardmil.files.atomic import write_atomically
from hardmil.jobs.outcome import Outcome
from hardmil.jobs.progress import progress
from hardmil.phantom.cohort import write_cohort
from hardmil.preprocessing.process_slides import RunOptions

N_TRAIN, N_TEST = 24, 16
# Synthetic slides have no dust and no cracks; their small holes are fat and vessels.
NO_CLEANING = TissueConfig(min_area_um2=0, max_hole_um2=0, drop_pen=False)


def demo(folder: Path, *, seed: int = 0, quiet: bool = False) -> Outcome:
    """Draw the slides unless they exist, then patch, encode and evaluate; the last line is the report.

    Raises:
        StoreError: If the folder is not writable.
    """
    config = demo_config(seed)
    if not (folder / config.slides).exists():
        with progress("drawing slides", total=N_TRAIN + N_TEST, quiet=quiet) as step:
            write_cohort(folder, n_train=N_TRAIN, n_test=N_TEST, seed=seed, progress=lambda slide_id: step())
    with write_atomically(folder / FILE_NAME) as draft:
        draft.write_text(commented_yaml(config), encoding="utf-8")
    options = RunOptions(quiet=quiet)
    patched = patch(folder, options=options)
    encoded = encode(folder, options=options)
    compared = evaluate(folder, name="demo", quiet=quiet)
    about = "these slides are synthetic: they show how the program works, not how good it is on tissue"
    lines = [*patched.lines, *encoded.lines, about, *compared.lines]
    return Outcome(lines, compared.values, compared.failures, compared.log)


def demo_config(seed: int) -> StudyConfig:
    """The settings of the demo: small and quick, 1 um/px, held-out cases from a splits file."""
    return StudyConfig(
        seed=seed,
        positive="positive",
        arm="ours",
        patches=PatchConfig(size_px=32, um_per_px=1.0, tissue_rule="s-or-v", tissue=NO_CLEANING),
        network=NetworkConfig(embedding_dim=128),
        training=TrainingConfig(epochs=12, lr=5e-4, max_instances=64),
        mining=MiningConfig(inner_folds=3),
        # No operating point: it would train every arm four times.
        evaluation=EvaluationConfig(
            arms=("ours", "ours+fmb-oof", "ours+fmb-oof@random", "ours+instance"),
            splits=".",
            operating_folds=0,
        ),
    )

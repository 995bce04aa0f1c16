"""`hardmil mine STUDY`: the hard negatives of a bundle: table, gallery, GeoJSON. Never trains."""

from collections.abc import Sequence
from pathlib import Path

from hardmil.bundles import mining
from hardmil.bundles.bundle import load_bundle
from hardmil.jobs.outcome import Outcome, count
from hardmil.preprocessing.study_folder import open_study


def mine(
    path: Path,
    *,
    bundle_folder: Path | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Write what fools the study's bundle, and say how much it is."""
    study = open_study(path, overrides=overrides)
    bundle = load_bundle(bundle_folder or study.folder / "bundle", device=device or study.config.device)
    found = mining.mine(study, bundle=bundle, quiet=quiet)
    n_training, n_now = len(found.from_training), len(found.current)
    wrong = len({one.slide_id for one in found.current})
    lines = [
        *found.notes,
        f"{count(n_training, 'hard negative')} from training, {n_now} now from {wrong} of "
        f"{count(found.n_negative, 'negative slide')} that the bundle calls positive",
        f"table, GeoJSON: {found.folder}",
        f"gallery: {found.gallery}",
    ]
    values = {
        "n_hard": n_training + n_now,
        "n_now": n_now,
        "n_false_positive_bags": wrong,
        "folder": str(found.folder),
    }
    return Outcome(lines, values, found.failures, found.log)

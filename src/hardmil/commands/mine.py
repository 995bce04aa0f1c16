"""`hardmil mine STUDY`: the hard negatives of a bundle: table, gallery, GeoJSON. Never trains."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hardmil.bundles import mining
from hardmil.bundles.bundle import Card, load_bundle
from hardmil.evaluation.results import HARD_NEGATIVES
from hardmil.jobs.outcome import Outcome
from hardmil.mining.hard_instances import HardInstance
from hardmil.preprocessing.study_folder import open_study
from hardmil.words import count

REVIEW = " Or judge patches in a browser: hardmil review"


def mine(
    path: Path,
    *,
    bundle_folder: Path | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    deidentify: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Write what fools the study's bundle, and say how much it is."""
    study = open_study(path, overrides=overrides)
    bundle = load_bundle(bundle_folder or study.folder / "bundle", device=device or study.config.device)
    found = mining.mine(study, bundle=bundle, deidentify=deidentify, quiet=quiet)
    kinds = {
        "mined and trained on": found.from_training,
        "fooled a model that had not seen the slide (out of fold)": found.out_of_fold,
        "fool the bundle itself": found.current,
    }
    n_hard = sum(map(len, kinds.values()))
    slides = "negative slide" if bundle.card.task.is_binary else "slide"
    lines = [
        *found.notes,
        f"{count(n_hard, 'hard negative')} on {count(found.n_negative, slides)}:",
        *(f"  {len(some)} {what}, on {_slides(some)}" for what, some in kinds.items() if some),
        *_class_lines([one for some in kinds.values() for one in some]),
        *(_what_next(found, card=bundle.card) if n_hard else [_why_none(bundle.card)]),
    ]
    values = {
        "n_hard": n_hard,
        "n_out_of_fold": len(found.out_of_fold),
        "n_now": len(found.current),
        "n_false_positive_bags": len({one.slide_id for one in found.current}),
        "folder": str(found.folder),
    }
    return Outcome(lines, values, found.failures, found.log)


def _class_lines(pool: Sequence[HardInstance]) -> list[str]:
    """How many are hard for each class; nothing where there are two classes."""
    n_of = Counter(one.hard_for for one in pool if one.hard_for)
    return [f"  hard for {name}: {n}" for name, n in n_of.items()]


def _slides(some: Sequence[HardInstance]) -> str:
    return count(len({one.slide_id for one in some}), "slide")


def _what_next(found: mining.HardNegatives, *, card: Card) -> list[str]:
    has_tiles = any(one.size_level0 > 0 for one in (*found.from_training, *found.out_of_fold, *found.current))
    return [
        f"gallery: {found.gallery}",
        f"table: {found.folder / HARD_NEGATIVES}",
        *([f"for QuPath: {found.folder / 'geojson'}"] if has_tiles else []),
        _next_step(card),
    ]


def _next_step(card: Card) -> str:
    """How verdicts on the patches are given."""
    words = "lesion, normal, artefact" if card.task.is_binary else "a class, normal, artefact"
    return (
        f"next: say what some of them are ({words}) in a table verdicts.csv, with columns slide_id, x, y, "
        "verdict; set mining.verdicts: verdicts.csv and arm: ours+instance+verdicts in study.yaml; then: "
        f"hardmil train.{REVIEW}"
    )


def _why_none(card: Card) -> str:
    if not card.has_operating_point:
        return (
            "the bundle has no out-of-fold scores: evaluation.operating_folds is 0, or a class has too few "
            "cases; add slides, or set it to 3"
        )
    if not card.task.is_binary:
        return "no slide was called a class that it is not of, out of fold or by the bundle"
    return "no negative slide was called positive, out of fold or by the bundle: there is nothing to look at"

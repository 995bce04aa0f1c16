"""The hard negatives of a bundle: what fooled its models in training, out of fold, and what fools it now."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bags.pseudonyms import SUFFIX, renamed
from hardmil.bundles.bundle import OUT_OF_FOLD, Bundle, mined_columns
from hardmil.bundles.class_mining import mine_by_class
from hardmil.config.task import TaskConfig
from hardmil.errors import BundleError
from hardmil.evaluation.results import HARD_NEGATIVES, HardNegativeRow
from hardmil.evaluation.study_review import reviewed_bags
from hardmil.files.atomic import prepare_folder
from hardmil.files.csv_table import read_table, write_table
from hardmil.files.geojson import Region, square, write_regions
from hardmil.files.run_record import write_run_record
from hardmil.files.written import edited_notes, replacing
from hardmil.jobs.failures import Failure, write_failures
from hardmil.mining.hard_instances import HardInstance, mine_instances_above
from hardmil.mining.verdict_matching import no_hard_negatives
from hardmil.preprocessing.study_folder import Study, deidentified_study, read_bags
from hardmil.report.assemble import write_gallery
from hardmil.slides.reader import origin_of


@dataclass(frozen=True, eq=False)
class HardNegatives:
    """What fools a bundle, and the folder with table, gallery and GeoJSON.

    `from_training` was mined by the arm and trained on. `out_of_fold` fooled the whole arm on slides that it
    had not seen. `current` fools the bundle on the negative slides of the study, of which there are
    `n_negative`; most of them were trained on. No instance is in two of these. `failures` are slides without
    a bag.

    With more than two classes, a slide is negative for each class that it is not of, so all are counted, and
    `hard_for` of an instance is the class that its slide was called.
    """

    folder: Path
    gallery: Path
    from_training: Sequence[HardInstance]
    out_of_fold: Sequence[HardInstance]
    current: Sequence[HardInstance]
    n_negative: int
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    log: Path | None = None


def mine(study: Study, *, bundle: Bundle, deidentify: bool = False, quiet: bool = False) -> HardNegatives:
    """Write what fools the bundle to `mined/` in the study's folder; trains nothing.

    The column `source` says which model was fooled: train (that of the training), out-of-fold (one that had
    not seen the slide) or bundle.

    Args:
        study: The study whose negative slides are scored.
        bundle: From `load_bundle`.
        deidentify: Write pseudonyms instead of slide and case ids, to `mined-deidentified/`.
        quiet: No progress bar.

    Raises:
        BagError: If no slide has a bag, or the bundle cannot take one.
    """
    started = time.time()
    folder = study.folder / f"mined{SUFFIX * deidentify}"
    prepare_folder(folder)
    reviewed = reviewed_bags(study, read_bags(study, quiet=quiet))
    found = reviewed.found
    is_binary = bundle.card.task.is_binary
    _check_classes(bundle, study)
    negatives = [bundle.check(bag) for bag in found.bags if bag.label == 0 or not is_binary]
    current = current_hard_negatives(bundle, negatives, n_sigma=study.config.mining.n_sigma)
    before = _kept(bundle, HARD_NEGATIVES, study=study)
    fooled = _without(before, _kept(bundle, OUT_OF_FOLD, study=study))
    current = _without([*before, *fooled], current)
    judged = no_hard_negatives(reviewed.matched, found.bags) if reviewed.matched else {}
    left_out = Counter(judged.get((one.slide_id, one.x, one.y)) for one in (*before, *fooled, *current))
    before, fooled, current = (
        [one for one in some if (one.slide_id, one.x, one.y) not in judged]
        for some in (before, fooled, current)
    )
    failures = found.failures
    if deidentify:
        study, found, names = deidentified_study(study, found, output=folder)
        before, fooled, current = (
            [renamed(one, names) for one in some] for some in (before, fooled, current)
        )
    pool = [*before, *fooled, *current]
    paths = {row.slide_id: row.path for row in study.slide_table.rows}
    config = study.config.model_dump(mode="json") | {"bundle": str(bundle.folder)}
    with replacing(folder) as edited:
        write_table(folder / HARD_NEGATIVES, pool, row=HardInstance, columns=mined_columns(bundle.card.task))
        _write_tiles(folder / "geojson", pool, paths=paths)
        log = write_failures(folder, list(found.failures))
        write_run_record(
            folder,
            "hardmil mine",
            config=config,
            seed=None,
            started=started,
            below=study.folder,
            deidentified=deidentify,
        )
        rows = [HardNegativeRow(None, one) for one in pool]
        gallery = write_gallery(folder / "hard_negatives.html", study=study, found=found, rows=rows)
    notes = [*reviewed.notes(uses_verdicts=False), *_judged_notes(left_out), *edited_notes(edited)]
    return HardNegatives(folder, gallery, before, fooled, current, len(negatives), notes, failures, log)


def _check_classes(bundle: Bundle, study: Study) -> None:
    """Check that a bundle of more than two classes is of those of the study.

    Raises:
        BundleError: If it is not: labels of slides would be read as other classes.
    """
    task, wanted = bundle.card.task, study.config.task
    if task != wanted:
        found = _in_words(bundle.card.classes, task=task)
        expected = _in_words(study.slide_table.classes, task=wanted)
        raise BundleError(
            f"{bundle.folder}: its classes are {found}; those of the study are {expected}; expected the "
            "same; train the study, or name its bundle"
        )


def _in_words(classes: Sequence[str], *, task: TaskConfig) -> str:
    if task.is_binary:
        return ", ".join(classes)
    kind = "several on one slide" if task.multi_label else "ordered" if task.ordinal else None
    return f"{', '.join(classes)} ({kind or f'negative: {task.negative}'})"


def _judged_notes(left_out: Counter[str | None]) -> list[str]:
    kinds = [f"{left_out[kind]} {kind}" for kind in ("artefact", "lesion") if left_out[kind]]
    return [f"review: not hard negatives by their verdicts, left out: {', '.join(kinds)}"] if kinds else []


def current_hard_negatives(
    bundle: Bundle, negatives: Sequence[Bag], *, n_sigma: float = 1.0
) -> list[HardInstance]:
    """The hard instances of the negative bags that the bundle calls positive.

    With more than two classes: of all bags that it calls a class which is not theirs.
    """
    if not bundle.card.task.is_binary:
        return mine_by_class(
            negatives,
            scores=bundle.score(negatives),
            task=bundle.card.task,
            thresholds=bundle.card.thresholds,
            n_sigma=n_sigma,
            source="bundle",
        )
    return mine_instances_above(
        negatives,
        scores=bundle.score(negatives),
        threshold=bundle.card.threshold,
        n_sigma=n_sigma,
        source="bundle",
    )


def _kept(bundle: Bundle, name: str, *, study: Study) -> list[HardInstance]:
    """The hard negatives in a table of the bundle, of slides in this study, without the random control."""
    path = bundle.path(name)
    if path is None:
        return []
    known = {row.slide_id for row in study.slide_table.rows}
    mined = read_table(path, HardInstance)
    return [one for one in mined if one.slide_id in known and one.source != "random"]


def _without(known: Sequence[HardInstance], others: Sequence[HardInstance]) -> list[HardInstance]:
    keys = {(one.key, one.hard_for) for one in known}
    return [one for one in others if (one.key, one.hard_for) not in keys]


def _write_tiles(folder: Path, pool: Sequence[HardInstance], *, paths: Mapping[str, Path | None]) -> None:
    """One file for each slide, its hard negatives as QuPath tiles."""
    for slide_id in dict.fromkeys(one.slide_id for one in pool):
        regions = [
            Region(
                square(one.x, one.y, size=one.size_level0),
                name=f"hard negative for {one.hard_for}" if one.hard_for else "hard negative",
                measurements={"attention": one.attention, "bag_score": one.bag_score},
            )
            for one in pool
            if one.slide_id == slide_id and one.size_level0 > 0
        ]
        if regions:
            path = folder / f"{slide_id}.geojson"
            write_regions(path, regions, object_type="tile", origin=origin_of(paths.get(slide_id)))

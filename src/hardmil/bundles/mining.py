"""The hard negatives of a bundle: those mined while it was trained, and those that fool it now."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle
from hardmil.evaluation.results import HARD_NEGATIVES, HardNegativeRow
from hardmil.files.atomic import visible
from hardmil.files.csv_table import read_table, write_table
from hardmil.files.geojson import Region, square, write_regions
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import Failure, write_failures
from hardmil.mining.hard_instances import HardInstance, false_positive_bags, mine_instances
from hardmil.preprocessing.study_folder import Study, read_bags
from hardmil.report.assemble import write_gallery
from hardmil.slides.reader import origin_of


@dataclass(frozen=True, eq=False)
class HardNegatives:
    """What fools a bundle, and the folder with table, gallery and GeoJSON.

    `from_training` was mined while the bundle was trained, `current` is mined now from the negative slides of
    the study, of which there are `n_negative`. `failures` are slides without a bag.
    """

    folder: Path
    gallery: Path
    from_training: Sequence[HardInstance]
    current: Sequence[HardInstance]
    n_negative: int
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    log: Path | None = None


def mine(study: Study, *, bundle: Bundle, quiet: bool = False) -> HardNegatives:
    """Write what fools the bundle to `mined/` in the study's folder; trains nothing.

    The column `source` says where an instance is from: train or out-of-fold for training, bundle for now.

    Args:
        study: The study whose negative slides are scored.
        bundle: From `load_bundle`.
        quiet: No progress bar.

    Raises:
        BagError: If no slide has a bag, or the bundle cannot take one.
    """
    started = time.time()
    found = read_bags(study, quiet=quiet)
    negatives = [bundle.check(bag) for bag in found.bags if bag.label == 0]
    current = current_hard_negatives(bundle, negatives, n_sigma=study.config.mining.n_sigma)
    before = _mined_in_training(bundle, study=study)
    folder, pool = study.folder / "mined", [*before, *current]
    write_table(folder / HARD_NEGATIVES, pool, row=HardInstance)
    paths = {row.slide_id: row.path for row in study.slide_table.rows}
    _write_tiles(folder / "geojson", pool, paths=paths)
    log = write_failures(folder, list(found.failures))
    config = study.config.model_dump(mode="json") | {"bundle": str(bundle.folder)}
    write_run_record(folder, "hardmil mine", config=config, seed=None, started=started)
    rows = [HardNegativeRow(None, one) for one in pool]
    gallery = write_gallery(folder / "hard_negatives.html", study=study, found=found, rows=rows)
    return HardNegatives(folder, gallery, before, current, len(negatives), found.notes, found.failures, log)


def current_hard_negatives(
    bundle: Bundle, negatives: Sequence[Bag], *, n_sigma: float = 1.0
) -> list[HardInstance]:
    """The hard instances of the negative bags that the bundle calls positive."""
    scores = bundle.score(negatives)
    wrong = false_positive_bags(negatives, scores=scores, threshold=bundle.card.threshold)
    return mine_instances(
        [negatives[i] for i in wrong],
        scores=[scores[i] for i in wrong],
        n_sigma=n_sigma,
        number=1,
        source="bundle",
    )


def _mined_in_training(bundle: Bundle, *, study: Study) -> list[HardInstance]:
    """What was mined while the bundle was trained, of slides in this study, without the control."""
    if bundle.folder is None:
        return []
    known = {row.slide_id for row in study.slide_table.rows}
    mined = read_table(bundle.folder / HARD_NEGATIVES, HardInstance)
    return [one for one in mined if one.slide_id in known and one.source != "random"]


def _write_tiles(folder: Path, pool: Sequence[HardInstance], *, paths: Mapping[str, Path | None]) -> None:
    """One file for each slide, its hard negatives as QuPath tiles; replaces those of an earlier call."""
    for old in visible(folder.glob("*.geojson")):
        old.unlink()
    for slide_id in dict.fromkeys(one.slide_id for one in pool):
        regions = [
            Region(
                square(one.x, one.y, size=one.size_level0),
                name="hard negative",
                measurements={"attention": one.attention, "bag_score": one.bag_score},
            )
            for one in pool
            if one.slide_id == slide_id and one.size_level0 > 0
        ]
        if regions:
            path = folder / f"{slide_id}.geojson"
            write_regions(path, regions, object_type="tile", origin=origin_of(paths.get(slide_id)))

"""`hardmil mine STUDY`: the hard negatives of a bundle: table, gallery, GeoJSON; never trains."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Bundle, load_bundle
from hardmil.device import find_device
from hardmil.evaluation.results import MINED, hard_negative_rows
from hardmil.files.atomic import visible
from hardmil.files.csv_table import Row, read_rows, write_rows
from hardmil.files.geojson import Region, square, write_regions
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import write_failures
from hardmil.jobs.outcome import Outcome, count
from hardmil.mil.inference import score_bags
from hardmil.mining.hard_instances import HardInstance, false_positive_bags, mine_instances
from hardmil.preprocessing.study_folder import Study, open_study, study_bags
from hardmil.report.assemble import write_gallery


def mine(
    path: Path,
    *,
    bundle_folder: Path | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Write what fools the study's bundle: mined when it was trained, and among all negative slides now.

    The column `source` says which: train or out-of-fold from training, bundle from now.

    Raises:
        BundleError: If there is no bundle of this version.
    """
    started = time.time()
    study = open_study(path, overrides=overrides)
    source = bundle_folder or study.folder / "bundle"
    bundle = load_bundle(source, device=find_device(device or study.config.device).name)
    found = study_bags(study, quiet=quiet)
    negatives = [bundle.check(bag) for bag in found.bags if bag.label == 0]
    pool = current_hard_negatives(bundle, negatives, n_sigma=study.config.mining.n_sigma)
    rows = [
        *_mined_in_training(source, study=study),
        *({key: str(value) for key, value in row.items()} for row in hard_negative_rows(pool)),
    ]
    folder = study.folder / "mined"
    write_rows(folder / "hard_negatives.csv", rows, columns=MINED)
    _write_tiles(folder / "geojson", rows)
    log = write_failures(folder, list(found.failures))
    config = study.config.model_dump(mode="json") | {"bundle": str(source)}
    write_run_record(folder, "hardmil mine", config=config, seed=None, started=started)
    gallery = write_gallery(folder / "hard_negatives.html", study=study, found=found, rows=rows)
    outcome = _outcome(rows, pool=pool, negatives=negatives, folder=folder, gallery=gallery)
    return replace(outcome, lines=[*found.notes, *outcome.lines], failures=found.failures, log=log)


def current_hard_negatives(bundle: Bundle, negatives: Sequence[Bag], *, n_sigma: float) -> list[HardInstance]:
    """The hard instances of the negative bags that the bundle scores positive."""
    scores = score_bags(bundle.network, negatives)
    wrong = false_positive_bags(negatives, scores=scores, threshold=bundle.card.threshold)
    return mine_instances(
        [negatives[i] for i in wrong],
        scores=[scores[i] for i in wrong],
        n_sigma=n_sigma,
        number=1,
        source="bundle",
    )


def _mined_in_training(folder: Path, *, study: Study) -> list[Row]:
    """What was mined when the bundle was trained, of slides in this study, without the control."""
    known = {row.slide_id for row in study.slide_table.rows}
    rows = read_rows(folder / "hard_negatives.csv")
    return [row for row in rows if row["slide_id"] in known and row["source"] != "random"]


def _write_tiles(folder: Path, rows: Sequence[Row]) -> None:
    """One file a slide, its hard negatives as tiles of QuPath; those of an earlier call go."""
    for old in visible(folder.glob("*.geojson")):
        old.unlink()
    for slide_id in dict.fromkeys(row["slide_id"] for row in rows):
        regions = [
            Region(
                square(int(row["x"]), int(row["y"]), size=int(row["size_level0"])),
                name="hard negative",
                measurements={"attention": float(row["attention"]), "bag_score": float(row["bag_score"])},
            )
            for row in rows
            if row["slide_id"] == slide_id and int(row["size_level0"]) > 0
        ]
        if regions:
            write_regions(folder / f"{slide_id}.geojson", regions, object_type="tile")


def _outcome(
    rows: Sequence[Row],
    *,
    pool: Sequence[HardInstance],
    negatives: Sequence[Bag],
    folder: Path,
    gallery: Path,
) -> Outcome:
    wrong = len({one.slide_id for one in pool})
    lines = [
        f"{count(len(rows) - len(pool), 'hard negative')} from training, {len(pool)} now from {wrong} of "
        f"{count(len(negatives), 'negative slide')} that the bundle calls positive",
        f"table, GeoJSON: {folder}",
        f"gallery: {gallery}",
    ]
    values = {"n_hard": len(rows), "n_now": len(pool), "n_false_positive_bags": wrong, "folder": str(folder)}
    return Outcome(lines, values)

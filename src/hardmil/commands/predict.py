"""`hardmil predict BUNDLE SLIDE...`: scores, heat maps and GeoJSON of new slides."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.cutting import cut_bag
from hardmil.bags.encoder import PatchEncoder, encoder_notes
from hardmil.bags.formats import find_feature_file, notes_on, read_features
from hardmil.bags.manifest import SlideRow, read_manifest
from hardmil.commands.encode import encoder_of
from hardmil.commands.outcome import Outcome
from hardmil.commands.report_page import heatmap_png
from hardmil.commands.study_folder import count, slide_name
from hardmil.config import CutConfig
from hardmil.errors import ConfigError, TableError
from hardmil.files import write_atomically, write_run_record
from hardmil.geojson import Region, square, write_regions
from hardmil.jobs import run_jobs, write_failures
from hardmil.metrics import binary_metrics
from hardmil.mil.bundle import Bundle, Card, load_bundle
from hardmil.mil.inference import BagScore, score_bags
from hardmil.mil.training import find_device
from hardmil.study.results import METRICS, prediction_columns, prediction_row, write_attention, write_rows


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be predicted."""

    rows: tuple[SlideRow, ...]
    labels: dict[str, int]
    features: Path | None
    mpp: float | None
    encoder: PatchEncoder | None = None


def predict(
    bundle_folder: Path,
    *,
    slides: Sequence[Path] = (),
    table: Path | None = None,
    features: Path | None = None,
    output: Path = Path("predictions"),
    mpp: float | None = None,
    heatmaps: bool = True,
    device: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Score slides never seen; with labels in the table, the metrics too.

    Raises:
        BundleError: If the folder is no bundle of this version.
        ConfigError: If there is nothing to predict, or the bundle cannot take what is given.
    """
    started = time.time()
    bundle = load_bundle(bundle_folder, device=find_device(device or "auto").name)
    asked = _asked(bundle, slides=slides, table=table, features=features, mpp=mpp)
    if bundle.cut is not None:
        asked = replace(asked, encoder=_encoder(bundle, bundle.cut, bundle_folder, device=device or "auto"))

    def score(row: SlideRow) -> tuple[Bag, BagScore]:
        bag = bundle.check(_bag(row, bundle=bundle, asked=asked))
        found = score_bags(bundle.network, [bag])[0]
        write_attention(output / "attention" / f"{row.slide_id}.h5", [bag], scores=[found])
        if bag.size_level0_px > 0:
            _write_tiles(output / "geojson" / f"{row.slide_id}.geojson", bag, found)
        if heatmaps and row.path is not None and row.path.exists() and bag.size_level0_px > 0:
            png = heatmap_png(
                bag,
                path=row.path,
                attention=found.attention,
                bag_score=found.bag_score,
                label=row.label,
                mpp=row.mpp,
                fallback_mpp=asked.mpp,
            )
            with write_atomically(output / "heatmaps" / f"{row.slide_id}.png") as draft:
                draft.write_bytes(png)
        return bag, found

    done = run_jobs(score, asked.rows, name=slide_name, label="predicting", quiet=quiet)
    rows = [_row(bag, found, card=bundle.card) for bag, found in done.results.values()]
    write_rows(output / "predictions.csv", rows, columns=prediction_columns(bundle.card.classes))
    log = write_failures(output, done.failures)
    config = {"bundle": str(bundle_folder), "card": bundle.card.model_dump(mode="json")}
    write_run_record(output, "hardmil predict", config=config, seed=None, started=started)
    lines, values = _summary(list(done.results.values()), bundle=bundle, output=output)
    lines += notes_on(bag for bag, _ in done.results.values())
    if bundle.cut is not None and asked.encoder is not None:
        lines += encoder_notes(bundle.cut, asked.encoder)
    return Outcome(lines, values, done.failures, log)


def _asked(
    bundle: Bundle,
    *,
    slides: Sequence[Path],
    table: Path | None,
    features: Path | None,
    mpp: float | None,
) -> Asked:
    if bundle.cut is None and features is None:
        raise ConfigError(
            "this bundle was trained on features of an encoder; give the folder of the new slides' features: "
            "--features DIR, with --slides table.csv or slide ids"
        )
    if bundle.cut is not None and features is not None:
        raise ConfigError(
            f"this bundle makes its instances of slides ({bundle.cut.encode}); give slides instead of "
            "--features"
        )
    if bool(slides) == (table is not None):
        raise ConfigError("expected either slides or --slides table.csv; give one of the two")
    if mpp is not None and mpp <= 0:
        raise ConfigError(f"--mpp {mpp}: expected micrometres per pixel, above 0, such as 0.5")
    if table is None:
        return Asked(_rows_of(slides, are_ids=features is not None), {}, features, mpp)
    positive = bundle.card.classes[1]
    manifest = read_manifest(table, positive=None, labels_required=False, paths_required=features is None)
    labels = {row.slide_id: int(row.label == positive) for row in manifest.rows if row.label is not None}
    unknown = {row.label for row in manifest.rows} - {None, *bundle.card.classes}
    if unknown:
        raise TableError(
            f"{table}: label {sorted(map(str, unknown))[0]!r}; the bundle knows "
            f"{bundle.card.classes[0]!r} and {positive!r}; correct the table, or leave its labels empty"
        )
    return Asked(manifest.rows, labels, features, mpp)


def _encoder(bundle: Bundle, cut: CutConfig, folder: Path, *, device: str) -> PatchEncoder | None:
    """The encoder of a bundle, whose file may lie in the bundle, beside it, or in the working folder.

    Raises:
        ConfigError: If it is not to be had, or has other weights than the one the bundle was trained on.
    """
    precision = bundle.network.config.training.precision
    folders = (folder, folder.parent, Path())
    encoder = encoder_of(cut, device=device, precision=precision, folders=folders)
    wanted = bundle.card.encoder
    if encoder is not None and wanted is not None and encoder.name != wanted:
        raise ConfigError(
            f"{folder}: was trained on embeddings of {wanted}, but {cut.encode} is {encoder.name} here; "
            "expected the same weights; bring that file or version, or train the bundle again"
        )
    return encoder


def _rows_of(slides: Sequence[Path], *, are_ids: bool) -> tuple[SlideRow, ...]:
    """A row a file; its name without suffix is its id. With features they are ids, and dots stay."""
    stems = [path.name if are_ids else path.stem for path in slides]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ConfigError(f"two slides are named {twice[0]}; give them ids in a table: --slides table.csv")
    return tuple(SlideRow(stem, stem, None, path, None) for stem, path in zip(stems, slides, strict=True))


def _bag(row: SlideRow, *, bundle: Bundle, asked: Asked) -> Bag:
    label = asked.labels.get(row.slide_id, -1)
    if asked.features is not None:
        path = find_feature_file(asked.features, slide_id=row.slide_id)
        return read_features(path, row, label=label)
    if bundle.card.patches is None:
        raise ConfigError("this bundle does not say how patches are cut; train it again")
    return cut_bag(row, config=bundle.card.patches, label=label, mpp=asked.mpp, encoder=asked.encoder)


def _write_tiles(path: Path, bag: Bag, score: BagScore) -> None:
    """Every patch as a tile of QuPath, with its attention and its instance logit."""
    regions = [
        Region(
            square(int(x), int(y), size=bag.size_level0_px),
            name="patch",
            measurements={"attention": float(a), "instance_logit": float(s)},
        )
        for (x, y), a, s in zip(bag.coords, score.attention, score.instance_logit, strict=True)
    ]
    write_regions(path, regions, object_type="tile")


def _row(bag: Bag, score: BagScore, *, card: Card) -> dict[str, object]:
    """A row of predictions.csv: called at the operating point, with the calibrated probability."""
    scores = np.array([score.bag_score])
    chance = float(card.calibration.probabilities(scores)[0]) if card.calibration else None
    op_threshold = card.threshold if card.operating else math.nan
    return prediction_row(
        bag,
        score,
        classes=card.classes,
        threshold=card.threshold,
        op_threshold=op_threshold,
        probability=chance,
    )


def _summary(
    done: Sequence[tuple[Bag, BagScore]], *, bundle: Bundle, output: Path
) -> tuple[list[str], dict[str, object]]:
    threshold, classes = bundle.card.threshold, bundle.card.classes
    n_positive = sum(score.bag_score > threshold for _, score in done)
    table = output / "predictions.csv"
    asked = f", set for {bundle.card.operating.asked}" if bundle.card.operating else ""
    called = f"{n_positive} called {classes[1]} (score > {threshold:.6g}{asked})"
    lines = [f"{count(len(done), 'slide')}, {called}: {table}"]
    values: dict[str, object] = {"slides": len(done), "positive": n_positive, "predictions": str(table)}
    n_seen = len({bag.slide_id for bag, _ in done} & set(bundle.card.training_slides))
    if n_seen:
        lines.append(f"{n_seen} of them were trained on: their scores say nothing about new slides")
        values["trained_on"] = n_seen
    labelled = [(bag.label, score.bag_score) for bag, score in done if bag.label >= 0]
    if labelled:
        labels, scores = (np.array(column) for column in zip(*labelled, strict=True))
        metrics = binary_metrics(labels.astype(np.int64), scores.astype(np.float64), threshold=threshold)
        shown = ", ".join(f"{name} {getattr(metrics, name):.3f}" for name in METRICS)
        lines.append(f"against the labels of {count(len(labelled), 'slide')}: {shown}")
        known = {name: getattr(metrics, name) for name in METRICS}
        values["metrics"] = {name: None if math.isnan(value) else value for name, value in known.items()}
    return lines, values

"""`hardmil predict BUNDLE SLIDE...`: scores, heat maps and GeoJSON of new slides and their cases."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hardmil.bags.collection import notes_on_missing_coords
from hardmil.bags.slide_table import SlideRow
from hardmil.bundles.bundle import Bundle, load_bundle
from hardmil.bundles.cases import (
    DIAGNOSTICS,
    Cases,
    CaseScore,
    SlidePrediction,
    case_columns,
    diagnosis_rows,
    key_slide,
    scored,
    slide_columns,
)
from hardmil.bundles.prediction import bundle_encoder, prediction_bag, prediction_request
from hardmil.bundles.slide_files import HeatmapOptions, write_slide_files
from hardmil.device import find_device
from hardmil.encoders.encoder import encoder_notes
from hardmil.evaluation.results import METRICS
from hardmil.files.csv_table import write_rows
from hardmil.files.run_record import write_run_record
from hardmil.jobs.failures import write_failures
from hardmil.jobs.outcome import Outcome, count
from hardmil.jobs.run import run_jobs
from hardmil.metrics import binary_metrics
from hardmil.mil.inference import score_bags
from hardmil.preprocessing.study_folder import slide_name
from hardmil.report.key_patches import MAX_BYTES, KeySlide, write_key_patches

MAX_WARNINGS = 5
DEFAULT_HEATMAPS = HeatmapOptions()


def predict(
    bundle_folder: Path,
    *,
    slides: Sequence[Path] = (),
    table: Path | None = None,
    features: Path | None = None,
    output: Path = Path("predictions"),
    mpp: float | None = None,
    case_score: CaseScore = "pooled",
    pictures: HeatmapOptions = DEFAULT_HEATMAPS,
    device: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Score slides never seen, and their cases; with labels in the table, the metrics too.

    Raises:
        BundleError: If the folder is no bundle of this version.
        ConfigError: If there is nothing to predict, or the bundle cannot take what is given.
    """
    started = time.time()
    bundle = load_bundle(bundle_folder, device=find_device(device or "auto").name)
    asked = prediction_request(bundle, slides=slides, table=table, features=features, mpp=mpp)
    if bundle.instance_config is not None:
        asked = replace(
            asked,
            encoder=bundle_encoder(bundle, bundle.instance_config, bundle_folder, device=device or "auto"),
        )
    cases = Cases(bundle, how=case_score)
    key_slides: list[KeySlide] = []

    def score(row: SlideRow) -> SlidePrediction:
        bag = bundle.check(prediction_bag(row, bundle=bundle, asked=asked))
        found = score_bags(bundle.network, [bag])[0]
        small = write_slide_files(
            output,
            row,
            bag=bag,
            score=found,
            classes=bundle.card.classes,
            pictures=pictures,
            fallback_mpp=asked.mpp,
            wants_small=sum(each.pictures.n_bytes for each in key_slides) < MAX_BYTES,
        )
        one = scored(bag, found, card=bundle.card)
        cases.add(bag, one)
        key_slides.extend(key_slide(one, card=bundle.card, pictures=small))
        return one

    by_case = sorted(asked.rows, key=lambda row: row.case_id)
    done = run_jobs(score, by_case, name=slide_name, label="predicting", quiet=quiet)
    slides_done = [done.results[row.slide_id] for row in asked.rows if row.slide_id in done.results]
    rows = [one.row for one in slides_done]
    write_rows(output / "predictions.csv", rows, columns=slide_columns(bundle.card))
    case_rows = cases.rows(failed=[row.case_id for row in asked.rows if row.slide_id not in done.results])
    write_rows(output / "predictions_by_case.csv", case_rows, columns=case_columns(bundle.card))
    write_rows(output / "diagnostics.csv", diagnosis_rows(slides_done), columns=DIAGNOSTICS)
    if key_slides:
        write_key_patches(output / "key_patches.html", key_slides, n_slides=len(slides_done))
    log = write_failures(output, done.failures)
    config = {"bundle": str(bundle_folder), "card": bundle.card.model_dump(mode="json")}
    write_run_record(output, "hardmil predict", config=config, seed=None, started=started)
    lines, values = _summary(slides_done, bundle=bundle, output=output)
    lines += _case_lines(case_rows, n_slides=len(slides_done), how=case_score)
    lines += _warning_lines(slides_done, output=output)
    lines += notes_on_missing_coords([one.slide_id for one in slides_done if not one.has_places])
    if bundle.instance_config is not None and asked.encoder is not None:
        lines += encoder_notes(bundle.instance_config, asked.encoder)
    return Outcome(lines, values, done.failures, log)


def _summary(
    done: Sequence[SlidePrediction], *, bundle: Bundle, output: Path
) -> tuple[list[str], dict[str, object]]:
    threshold, classes = bundle.card.threshold, bundle.card.classes
    n_positive = sum(one.bag_score > threshold for one in done)
    table = output / "predictions.csv"
    asked = f", set for {bundle.card.operating.asked}" if bundle.card.operating else ""
    called = f"{n_positive} called {classes[1]} (score > {threshold:.6g}{asked})"
    lines = [f"{count(len(done), 'slide')}, {called}: {table}"]
    values: dict[str, object] = {"slides": len(done), "positive": n_positive, "predictions": str(table)}
    n_seen = len({one.slide_id for one in done} & set(bundle.card.training_slides))
    if n_seen:
        lines.append(f"{n_seen} of them were trained on: their scores say nothing about new slides")
        values["trained_on"] = n_seen
    labelled = [(one.label, one.bag_score) for one in done if one.label >= 0]
    if labelled:
        labels, scores = (np.array(column) for column in zip(*labelled, strict=True))
        metrics = binary_metrics(labels.astype(np.int64), scores.astype(np.float64), threshold=threshold)
        shown = ", ".join(f"{name} {getattr(metrics, name):.3f}" for name in METRICS)
        lines.append(f"against the labels of {count(len(labelled), 'slide')}: {shown}")
        known = {name: getattr(metrics, name) for name in METRICS}
        values["metrics"] = {name: None if math.isnan(value) else value for name, value in known.items()}
    return lines, values


def _case_lines(rows: Sequence[Mapping[str, object]], *, n_slides: int, how: CaseScore) -> list[str]:
    if len(rows) == n_slides:
        return []
    n_several = sum(int(str(row["n_slides"])) > 1 for row in rows)
    cases = f"{count(len(rows), 'case')}, {n_several} of several slides, scored {how}"
    return [f"{cases}: predictions_by_case.csv"]


def _warning_lines(slides: Sequence[SlidePrediction], *, output: Path) -> list[str]:
    """The first slides that are unlike training's, and how many have something wrong with their attention."""
    warned = [one for one in slides if one.warnings]
    lines = [f"warning: {one.slide_id}: {'; '.join(one.warnings)}" for one in warned[:MAX_WARNINGS]]
    if len(warned) > MAX_WARNINGS:
        lines.append(f"warning: {len(warned) - MAX_WARNINGS} more slides; see column warnings")
    found = Counter(each.finding for one in slides for each in one.diagnoses)
    if found:
        named = ", ".join(f"{name} in {count(n, 'slide')}" for name, n in found.items())
        lines.append(f"attention: {named}; what to do: {output / 'diagnostics.csv'}")
    return lines

"""`hardmil predict BUNDLE SLIDE...`: scores, heat maps and GeoJSON of new slides and their cases."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hardmil.bags.collection import notes_on_missing_coords
from hardmil.bags.pseudonyms import SUFFIX
from hardmil.bundles.bundle import Card, load_bundle
from hardmil.bundles.cases import CaseScore
from hardmil.bundles.prediction import DEFAULT_HEATMAPS, Predictions
from hardmil.bundles.prediction import predict as predict_slides
from hardmil.bundles.prediction_folder import DEFAULT_FOLDER, free_folder
from hardmil.bundles.prediction_metrics import ClassMetrics
from hardmil.bundles.slide_files import HeatmapOptions
from hardmil.config.task import NONE
from hardmil.encoders.encoder import encoder_notes
from hardmil.jobs.outcome import Outcome
from hardmil.words import count

MAX_WARNINGS = 5


def predict(
    bundle_folder: Path,
    *,
    slides: Sequence[Path] = (),
    table: Path | None = None,
    features: Path | None = None,
    output: Path | None = None,
    mpp: float | None = None,
    case_score: CaseScore = "pooled",
    heatmaps: HeatmapOptions = DEFAULT_HEATMAPS,
    overrides: Sequence[str] = (),
    trust_encoder: bool = False,
    write_obs: bool = False,
    deidentify: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Score new slides and their cases; with labels in the table, say how good the scores are.

    Without `output`, they go to predictions/, or predictions-deidentified/; beside it where it holds a
    prediction.
    """
    bundle = load_bundle(bundle_folder, device=device or "auto")
    found = predict_slides(
        bundle,
        slides=slides,
        table=table,
        features=features,
        output=output or free_folder(Path(f"{DEFAULT_FOLDER}{SUFFIX * deidentify}")),
        mpp=mpp,
        case_score=case_score,
        heatmaps=heatmaps,
        overrides=overrides,
        trust_encoder=trust_encoder,
        write_obs=write_obs,
        deidentify=deidentify,
        quiet=quiet,
    )
    lines, values = _summary(found, card=bundle.card)
    lines += found.notes
    lines += _case_lines(found, how=case_score, table=table)
    lines += _warning_lines(found)
    lines += notes_on_missing_coords([one.slide_id for one in found.slides if not one.has_coords])
    if bundle.instance_config is not None and found.encoder is not None:
        lines += encoder_notes(bundle.instance_config, found.encoder)
    return Outcome(lines, values, found.failures, found.log)


def _summary(found: Predictions, *, card: Card) -> tuple[list[str], dict[str, object]]:
    n_slides = len(found.slides)
    table = found.folder / "predictions.csv"
    called, values = _calls(found, card=card)
    lines = [f"{count(n_slides, 'slide')}, {called}: {table}"]
    values = {"slides": n_slides, **values, "predictions": str(table)}
    if found.n_trained_on:
        lines.append(
            f"{found.n_trained_on} of them were trained on: their scores say nothing about new slides"
        )
        values["trained_on"] = found.n_trained_on
    if found.metrics is not None:
        n_labelled = sum(one.label >= 0 for one in found.slides)
        known = found.metrics.overall if isinstance(found.metrics, ClassMetrics) else asdict(found.metrics)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
        lines.append(f"compared with the labels of {count(n_labelled, 'slide')}: {shown}")
        values["metrics"] = found.metrics.for_json()
    return lines, values


def _calls(found: Predictions, *, card: Card) -> tuple[str, dict[str, object]]:
    """How many slides are called what, in words and by name."""
    target = f", set for {card.target}" if card.has_operating_point else ""
    if card.task.is_binary:
        threshold, positive = card.threshold, card.classes[1]
        n_positive = sum(one.bag_score > threshold for one in found.slides)
        called = f"{n_positive} called {positive} (score > {threshold:.6g}{target})"
        return called, {"positive": n_positive}
    n_of = Counter(one.row.prediction.prediction for one in found.slides)
    predicted = {name: n_of[name] for name in card.classes}
    if card.task.multi_label:
        labels = np.array([card.task.label_of(text) for text in n_of.elements()], dtype=np.int64)
        n_yes = card.task.answers(labels).sum(axis=0).tolist()
        predicted = {**dict(zip(card.classes, n_yes, strict=True)), NONE: n_of[NONE]}
    called = ", ".join(f"{n} {name}" for name, n in predicted.items())
    return f"predicted {called}", {"predicted": predicted}


def _case_lines(found: Predictions, *, how: CaseScore, table: Path | None) -> list[str]:
    if len(found.cases) == len(found.slides):
        return [f"{table}: each slide is its own case"] if table is not None else []
    n_several = sum(row.n_slides > 1 for row in found.cases)
    cases = f"{count(len(found.cases), 'case')}, {n_several} of several slides, scored {how}"
    return [f"{cases}: predictions_by_case.csv"]


def _warning_lines(found: Predictions) -> list[str]:
    """The first slides that are unlike those of training, and how many have unusual attention."""
    warned = [one for one in found.slides if one.warnings]
    lines = [f"warning: {one.slide_id}: {'; '.join(one.warnings)}" for one in warned[:MAX_WARNINGS]]
    if len(warned) > MAX_WARNINGS:
        lines.append(f"warning: {len(warned) - MAX_WARNINGS} more slides; see column warnings")
    findings = Counter(each.finding for one in found.slides for each in one.diagnoses)
    if findings:
        named = ", ".join(f"{name} in {count(n, 'slide')}" for name, n in findings.items())
        lines.append(f"attention: {named}; what to do: {found.folder / 'diagnostics.csv'}")
    return lines

"""Score new slides, and their cases, with a bundle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.pseudonyms import Pseudonyms, check_only_deidentified, make_pseudonyms, renamed
from hardmil.bags.slide_table import SlideRow
from hardmil.bundles.bundle import Bundle, Card
from hardmil.bundles.bundle_encoder import bundle_encoder
from hardmil.bundles.cases import Cases, CaseScore
from hardmil.bundles.prediction_folder import DEFAULT_FOLDER
from hardmil.bundles.prediction_metrics import ClassMetrics, metrics_by_class
from hardmil.bundles.prediction_request import PredictionRequest, make_request
from hardmil.bundles.shown_classes import check_shown_class
from hardmil.bundles.slide_files import HeatmapOptions, obs_columns, write_slide_files
from hardmil.bundles.tables import (
    CaseRow,
    SlidePrediction,
    SlidePredictionRow,
    case_columns,
    diagnosis_rows,
    slide_columns,
    slide_prediction,
)
from hardmil.config.task import TaskConfig
from hardmil.encoders.encoder import PatchEncoder
from hardmil.errors import ConfigError
from hardmil.files.atomic import prepare_folder, write_json
from hardmil.files.csv_table import write_table
from hardmil.files.obs_columns import write_obs_columns
from hardmil.files.run_record import write_run_record
from hardmil.files.written import edited_notes, replacing
from hardmil.jobs.failures import Failure, write_failures
from hardmil.jobs.run import run_jobs
from hardmil.metrics import BinaryMetrics, binary_metrics
from hardmil.mil.bag_score import BagScore
from hardmil.preprocessing.instances import encode_slide
from hardmil.preprocessing.study_folder import slide_name
from hardmil.report.key_patches import MAX_BYTES, KeySlide, write_key_patches
from hardmil.report.page_data import SlideDiagnosis

DEFAULT_HEATMAPS = HeatmapOptions()


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a bundle says about slides and cases, and the folder with all files.

    `metrics` compare with the labels of the table; None where it has none. `failures` are slides that could
    not be scored; `log` holds their tracebacks. `n_trained_on` of the slides were trained on.
    """

    folder: Path
    slides: Sequence[SlidePrediction]
    cases: Sequence[CaseRow]
    metrics: BinaryMetrics | ClassMetrics | None
    n_trained_on: int = 0
    encoder: PatchEncoder | None = None
    failures: Sequence[Failure] = ()
    log: Path | None = None
    notes: Sequence[str] = ()


def predict(
    bundle: Bundle,
    *,
    slides: Sequence[Path] = (),
    table: Path | None = None,
    features: Path | None = None,
    output: Path = DEFAULT_FOLDER,
    mpp: float | None = None,
    case_score: CaseScore = "pooled",
    heatmaps: HeatmapOptions = DEFAULT_HEATMAPS,
    overrides: Sequence[str] = (),
    trust_encoder: bool = False,
    write_obs: bool = False,
    deidentify: bool = False,
    quiet: bool = False,
) -> Predictions:
    """Score new slides and their cases; tables, heat maps and GeoJSON go to a folder.

    The files of an earlier prediction in the folder are replaced, unless they were changed.

    Args:
        bundle: From `load_bundle`.
        slides: Slide files; with `features`, slide ids.
        table: A table of slides instead.
        features: Folder of feature files, for a bundle that was trained on features.
        output: Folder to write to.
        mpp: Micrometres per pixel of slides where neither table nor file says.
        case_score: How a case of several slides is scored: all patches as one bag (pooled), or the max or
            mean of its slides' scores.
        heatmaps: Which heat maps to draw.
        overrides: Other settings of what counts as tissue, such as "patches.min_tissue=0".
        trust_encoder: Whether an encoder that is code may run: TorchScript, torch.export, a Python function.
        write_obs: Add the scores of patches to the AnnData tables in `features`, as columns of `obs`.
        deidentify: Write pseudonyms instead of ids; their key and table are next to the bundle.
        quiet: No progress bar.

    Raises:
        ConfigError: If there is nothing to predict, the bundle cannot take it, or its encoder is not trusted.
        TableError: If the table of slides cannot be used.
    """
    started, card = time.time(), bundle.card
    _check_output(output, deidentify=deidentify, of_class=heatmaps.of_class, task=card.task)
    _check_obs(write_obs, features=features)
    request = make_request(
        bundle, slides=slides, table=table, features=features, mpp=mpp, overrides=overrides
    )
    names = _pseudonyms(bundle, request, output=output) if deidentify else None
    encoder = bundle_encoder(bundle, trust=trust_encoder)
    cases, key_slides = Cases(bundle, how=case_score), list[KeySlide]()

    def score(row: SlideRow) -> SlidePrediction:
        bag = bundle.check(_bag(row, bundle=bundle, request=request, encoder=encoder))
        named, row, bag = row, renamed(row, names), renamed(bag, names)
        found = bundle.score([bag])[0]
        small = write_slide_files(
            output,
            row,
            bag=bag,
            score=found,
            classes=card.classes,
            task=card.task,
            heatmaps=heatmaps,
            fallback_mpp=mpp,
            wants_small=sum(each.pictures.n_bytes for each in key_slides) < MAX_BYTES,
        )
        _write_obs(named, found, features=features if write_obs else None, task=card.task)
        one = slide_prediction(bag, found, card=card)
        cases.add(bag, one)
        key_slides.extend(one.key_slide(small, card=card))
        return one

    by_case = sorted(request.rows, key=lambda row: row.case_id)
    with replacing(output) as edited:
        done = run_jobs(score, by_case, name=slide_name, label="predicting", quiet=quiet)
        found = [done.results[row.slide_id] for row in request.rows if row.slide_id in done.results]
        failed = [row for row in request.rows if row.slide_id not in done.results]
        case_rows = cases.rows(failed=[renamed(row, names).case_id for row in failed])
        _write_tables(output, found, case_rows, key_slides, card=card)
        log = write_failures(output, names.failures(done.failures) if names else done.failures)
        _write_record(output, bundle=bundle, overrides=overrides, started=started, deidentified=deidentify)
        metrics = _write_metrics(output, found, card=card)
    seen = {row.slide_id for row in request.rows} & done.results.keys() & {*card.training_slides}
    notes = edited_notes(edited)
    return Predictions(output, found, case_rows, metrics, len(seen), encoder, done.failures, log, notes)


def _check_obs(write_obs: bool, *, features: Path | None) -> None:
    if write_obs and features is None:
        raise ConfigError(
            "--write-obs adds columns to AnnData tables; expected their folder as --features; give it"
        )


def _write_obs(row: SlideRow, score: BagScore, *, features: Path | None, task: TaskConfig) -> None:
    """Add what the model found to the table that the features of a slide are from; None: it is not wanted."""
    if features is not None:
        path = find_feature_file(features, slide_id=row.slide_id)
        write_obs_columns(path, obs_columns(score, task=task))


def _write_metrics(
    output: Path, slides: Sequence[SlidePrediction], *, card: Card
) -> BinaryMetrics | ClassMetrics | None:
    """Write metrics.json; None, and no file, where no slide has a label."""
    metrics = _metrics(slides, card=card)
    if metrics is not None:
        n_labelled = sum(one.label >= 0 for one in slides)
        threshold = {"threshold": card.threshold} if card.task.is_binary else {}
        write_json(
            output / "metrics.json", {**threshold, "labelled_slides": n_labelled, **metrics.for_json()}
        )
    return metrics


def _check_output(output: Path, *, deidentify: bool, of_class: str | None, task: TaskConfig) -> None:
    """Check what to draw, and that the folder can be written to; remove what killed runs left in it."""
    check_shown_class(of_class, task=task)
    if deidentify:
        check_only_deidentified(output)
    prepare_folder(output)


def _pseudonyms(bundle: Bundle, request: PredictionRequest, *, output: Path) -> Pseudonyms:
    """The pseudonyms of the slides; key and table are next to the bundle, usually in the study's folder."""
    if bundle.folder is None:
        raise ConfigError(
            "deidentify: this bundle is not on disk, so there is no folder for the key; save it first, with "
            "save_bundle"
        )
    return make_pseudonyms(request.rows, folder=bundle.folder.resolve().parent, output=output)


def _write_record(
    output: Path, *, bundle: Bundle, overrides: Sequence[str], started: float, deidentified: bool
) -> None:
    card = bundle.card.model_dump(mode="json", exclude={"training_slides"} if deidentified else None)
    config = {"bundle": str(bundle.folder), "card": card, "set": list(overrides)}
    write_run_record(
        output,
        "hardmil predict",
        config=config,
        seed=None,
        started=started,
        below=bundle.folder.resolve().parent if bundle.folder else None,
        deidentified=deidentified,
    )


def _write_tables(
    output: Path,
    slides: Sequence[SlidePrediction],
    cases: Sequence[CaseRow],
    key_slides: Sequence[KeySlide],
    *,
    card: Card,
) -> None:
    """Write the tables, and the page of key patches if there are any."""
    rows, classes, task = [one.row for one in slides], card.classes, card.task
    of_slides, of_cases = slide_columns(classes, task=task), case_columns(classes, task=task)
    write_table(output / "predictions.csv", rows, row=SlidePredictionRow, columns=of_slides)
    write_table(output / "predictions_by_case.csv", cases, row=CaseRow, columns=of_cases)
    write_table(output / "diagnostics.csv", diagnosis_rows(slides), row=SlideDiagnosis)
    if key_slides:
        write_key_patches(output / "key_patches.html", key_slides, n_slides=len(slides))


def _metrics(slides: Sequence[SlidePrediction], *, card: Card) -> BinaryMetrics | ClassMetrics | None:
    labelled = [one for one in slides if one.label >= 0]
    if not labelled:
        return None
    labels = np.array([one.label for one in labelled], dtype=np.int64)
    if not card.task.is_binary:
        of_classes = np.stack(
            [one.output.class_scores for one in labelled if one.output.class_scores is not None]
        )
        return metrics_by_class(labels, of_classes, task=card.task, thresholds=card.thresholds)
    scores = np.array([one.bag_score for one in labelled], dtype=np.float64)
    return binary_metrics(labels, scores, threshold=card.threshold)


def _bag(row: SlideRow, *, bundle: Bundle, request: PredictionRequest, encoder: PatchEncoder | None) -> Bag:
    label = request.labels.get(row.slide_id, -1)
    if request.features is not None:
        path = find_feature_file(request.features, slide_id=row.slide_id)
        return read_features(path, row, label=label)
    if request.patches is None:
        raise ConfigError("this bundle does not say how patches are made; train it again")
    return encode_slide(row, config=request.patches, label=label, mpp=request.mpp, encoder=encoder)

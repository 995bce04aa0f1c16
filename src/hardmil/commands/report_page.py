"""Rows, bags and slides -> what stands on report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hardmil.bags.bag import Bag
from hardmil.commands.report_intervals import report_intervals
from hardmil.commands.statistics_tables import Statistics
from hardmil.commands.study_folder import Study, StudyBags
from hardmil.config import BagKind, StudyConfig, model_config, resolve_config
from hardmil.errors import SlideError
from hardmil.files import read_json
from hardmil.geojson import regions_beside
from hardmil.geometry import first_known
from hardmil.jobs import Failure
from hardmil.report.gallery import GalleryItem, GalleryPicture, gallery_pictures
from hardmil.report.heatmap import SlideAttention, attention_figure
from hardmil.report.html import (
    AttentionPicture,
    Report,
    ReportArm,
    ReportData,
    ReportTable,
    write_report,
)
from hardmil.slides.reader import open_slide
from hardmil.study.evaluation import Evaluation, TrialRows
from hardmil.study.results import Row, read_attention
from hardmil.study.statistics import ArmSummary, hard_minus_random

MOST_HARD_NEGATIVES = 24
THUMBNAIL_PX = 1600


@dataclass(frozen=True)
class Page:
    """What a report says besides its numbers. `paths` and `mpp` are by slide_id.

    `interval_notes` stand with the intervals: what makes them too narrow.
    """

    title: str
    question: str
    paths: Mapping[str, Path | None]
    config: StudyConfig
    failures: Sequence[Failure] = ()
    notes: Sequence[str] = ()
    interval_notes: Sequence[str] = ()
    mpp: Mapping[str, float | None] | None = None


def write_evaluation_report(
    page: Page, *, evaluation: Evaluation, rows: TrialRows, statistics: Statistics
) -> Path:
    """Write report.html of an evaluation into its folder; its path."""
    path = evaluation.folder / "report.html"
    mined = [row for row in rows.hard_negatives if row["source"] != "random"]
    bags = evaluation.cohort.bags
    report = Report(
        title=page.title,
        question=page.question,
        data=_data(bags, classes=evaluation.classes),
        tables=_tables(statistics, page=page),
        config=config_text(page.config, kind=bags[0].kind, evaluation=evaluation),
        run=_record(evaluation.folder),
        failures=page.failures,
        hard_negatives=pictures_of(mined, paths=page.paths),
        n_hard_negatives=len({(row["slide_id"], row["instance"]) for row in mined}),
        attention=_attention(page, evaluation=evaluation, rows=rows),
    )
    write_report(path, report)
    return path


def write_gallery(path: Path, *, study: Study, found: StudyBags, rows: Sequence[Row]) -> Path:
    """Write the page of a bundle's hard negatives; its path."""
    report = Report(
        title=f"Hard negatives of {study.folder.resolve().name}",
        question="Which patches of negative slides fooled the model, and are they what their label says?",
        data=_data(found.bags, classes=study.manifest.classes),
        tables=(),
        config=config_text(study.config, kind=found.bags[0].kind),
        run=_record(path.parent),
        failures=found.failures,
        hard_negatives=pictures_of(rows, paths={row.slide_id: row.path for row in study.manifest.rows}),
        n_hard_negatives=len(rows),
    )
    write_report(path, report)
    return path


def pictures_of(rows: Sequence[Row], *, paths: Mapping[str, Path | None]) -> list[GalleryPicture]:
    """Pictures of the hardest mined instances, each once, taken from slide after slide in turn."""
    by_slide: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: -float(row["attention"])):
        by_slide.setdefault(row["slide_id"], {}).setdefault(row["instance"], row)
    queues = [list(found.values()) for found in by_slide.values()]
    in_turn = [
        queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)
    ]
    items = [_item(row) for row in in_turn[:MOST_HARD_NEGATIVES] if int(row["size_level0"]) > 0]
    return gallery_pictures(items, paths=paths)


def _item(row: Row) -> GalleryItem:
    return GalleryItem(
        slide_id=row["slide_id"],
        x=int(row["x"]),
        y=int(row["y"]),
        size_level0_px=int(row["size_level0"]),
        attention=float(row["attention"]),
        bag_score=float(row["bag_score"]),
        cluster=int(row["cluster"]),
        round=int(row["round"]),
        source=row["source"],
        arm=row.get("arm", ""),
    )


def heatmap_png(
    bag: Bag,
    *,
    path: Path,
    attention: np.ndarray,
    bag_score: float,
    label: str | None,
    mpp: float | None = None,
    fallback_mpp: float | None = None,
) -> bytes:
    """The slide beside its attention; truth outlined where a made-up slide has it beside it.

    `mpp`, from the table, is believed before the file, and `fallback_mpp` where neither says: as for patches.

    Raises:
        SlideError: If the slide cannot be read.
    """
    with open_slide(path) as slide:
        thumbnail = slide.thumbnail(THUMBNAIL_PX)
        shown = SlideAttention(
            slide_id=bag.slide_id,
            label=label,
            bag_score=bag_score,
            coords=bag.coords,
            size_level0_px=bag.size_level0_px,
            attention=attention,
            mpp=first_known(mpp, slide.mpp, fallback_mpp),
            truth=regions_beside(path) or [],
        )
        downsample = slide.width_px / thumbnail.shape[1]
    return attention_figure(shown, thumbnail=thumbnail, downsample=downsample)


def _data(bags: Sequence[Bag], *, classes: Sequence[str]) -> ReportData:
    n_positive = sum(bag.label == 1 for bag in bags)
    return ReportData(
        n_cases=len({bag.case_id for bag in bags}),
        n_slides=len(bags),
        n_positive=n_positive,
        n_negative=len(bags) - n_positive,
        positive=classes[1],
        negative=classes[0],
    )


def _tables(statistics: Statistics, *, page: Page) -> list[ReportTable]:
    """One table a way of splitting and of cutting patches."""
    summary = statistics.summary
    keys = dict.fromkeys((one.split, one.patches) for one in summary)
    single = (
        ["one repeat, so no standard error is known"] if all(one.n_repeats == 1 for one in summary) else []
    )
    title = "; ".join(["Arms on the same held-out slides", *single, *page.notes])
    return [
        ReportTable(
            title=f"{title} (split by {split}, patches {patches})",
            arms=[_arm(one, summary) for one in summary if (one.split, one.patches) == (split, patches)],
            intervals=report_intervals(statistics, split=split, patches=patches, notes=page.interval_notes),
        )
        for split, patches in keys
    ]


def _arm(one: ArmSummary, summary: Sequence[ArmSummary]) -> ReportArm:
    return ReportArm(
        name=one.arm,
        values=one.values,
        n_trials=one.n_trials,
        mines=one.mines,
        n_false_positive_bags=one.n_false_positive_bags,
        n_hard=one.n_hard,
        hard_minus_random=hard_minus_random(one, summary=summary),
    )


def config_text(config: StudyConfig, *, kind: BagKind, evaluation: Evaluation | None = None) -> str:
    """Every knob as YAML, those left open with the value they took, and what each arm changes."""
    content = config.model_dump(mode="json")
    content |= resolve_config(model_config(config), kind=kind).model_dump(mode="json")
    for arm in evaluation.arms if evaluation else ():
        model = resolve_config(arm.model, kind=kind).model_dump(mode="json")
        whole = {**model, "mining": arm.mining.model_dump(mode="json")}
        content.setdefault("arms", {})[arm.name] = _difference(whole, content)
    return yaml.safe_dump(content, sort_keys=False, width=100)


def _difference(changed: Mapping[str, object], content: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in changed.items():
        known = content[key]
        if isinstance(value, dict) and isinstance(known, dict):
            inner = _difference(value, known)
            found |= {key: inner} if inner else {}
        elif value != known:
            found[key] = value
    return found


def _record(folder: Path) -> dict[str, object]:
    content = read_json(folder / "run.json")
    return content if isinstance(content, dict) else {}


def _attention(page: Page, *, evaluation: Evaluation, rows: TrialRows) -> list[AttentionPicture]:
    """The positive and the negative slide that the study's arm scored highest when held out."""
    names = [arm.name for arm in evaluation.arms]
    name = page.config.arm if page.config.arm in names else names[0]
    predictions = sorted(
        (row for row in rows.predictions if row["arm"] == name), key=lambda row: -float(row["bag_score"])
    )
    highest = [
        next((row for row in predictions if row["label"] == label), None)
        for label in reversed(evaluation.classes)
    ]
    pictures = [
        _attention_picture(row, page=page, evaluation=evaluation, rows=rows) for row in highest if row
    ]
    return [picture for picture in pictures if picture is not None]


def _attention_picture(
    row: Row, *, page: Page, evaluation: Evaluation, rows: TrialRows
) -> AttentionPicture | None:
    """None where the slide's file cannot be read, places are not known, or trials/ was thrown away."""
    bag = next(bag for bag in evaluation.cohort.bags if bag.slide_id == row["slide_id"])
    path = page.paths.get(bag.slide_id)
    if path is None or bag.size_level0_px == 0:
        return None
    trial = next(
        one
        for one in rows.results
        if all(one[c] == row[c] for c in ("arm", "split", "patches", "repeat", "fold"))
    )
    stored = evaluation.folder / "trials" / trial["config_hash"] / "attention.h5"
    if not stored.exists():
        return None
    attention, _ = read_attention(stored, slide_id=bag.slide_id)
    score, label = float(row["bag_score"]), row["label"]
    mpp = (page.mpp or {}).get(bag.slide_id)
    try:
        png = heatmap_png(bag, path=path, attention=attention, bag_score=score, label=label, mpp=mpp)
    except SlideError:
        return None
    caption = (
        f"Slide {bag.slide_id}, labelled {label}, scored {score:.3f} by {row['arm']}: the highest-scored "
        f"{label} slide of those held out"
    )
    return AttentionPicture(png, caption)

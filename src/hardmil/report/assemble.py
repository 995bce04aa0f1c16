"""Everything on report.html, from rows, bags and slides."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from hardmil.bags.bag import Bag
from hardmil.config.model import BagKind, resolve_config
from hardmil.config.study import StudyConfig, model_config
from hardmil.config.task import NONE, TaskConfig
from hardmil.evaluation.arm_name import parse_arm_name
from hardmil.evaluation.arms import AUTO
from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import HardNegativeRow, ResultRow
from hardmil.files.atomic import read_json
from hardmil.files.shown_paths import shown_paths
from hardmil.jobs.failures import Failure
from hardmil.pictures.heatmap import SlideAttention
from hardmil.pictures.patch_pictures import GalleryPicture
from hardmil.preprocessing.study_folder import Study, StudyBags
from hardmil.report.class_curves import class_calibration_drawing, class_curve_drawings
from hardmil.report.class_tables import report_classes
from hardmil.report.confusion import (
    attention_of_arm,
    confusion_of,
    with_pictures,
    wrong_slide_requests,
    wrong_slides,
)
from hardmil.report.curves import calibration_drawing, curve_drawings
from hardmil.report.diagnoses import diagnoses_of_arm
from hardmil.report.hard_negatives import GallerySelection, select_hard_negatives
from hardmil.report.intervals import report_intervals, report_rates
from hardmil.report.page_data import (
    AttentionPicture,
    Confusion,
    Exclusion,
    LabelCount,
    Report,
    ReportArm,
    ReportData,
    ReportTable,
)
from hardmil.report.render import write_report
from hardmil.report.slide_drawings import DrawnPictures, PictureRequest, draw_slides
from hardmil.statistics.summary import ArmSummary, hard_minus_random
from hardmil.statistics.tables import Statistics

NOT_CENTRED = "0.5 means little for its scores: read the operating point"
NO_PATCH = "no patch: no tissue was found on the slide, or no piece is large enough for a patch"
DOUBTED = "a reviewer doubts its label or quality (mining.leave_out_doubted)"


@dataclass(frozen=True)
class Page:
    """What a report says in addition to its numbers. `paths` and `mpp` are by slide_id.

    `exclusions` are the slides that no number includes. `interval_notes` say what makes the intervals too
    narrow, `data_notes` what is wrong with the slides. Paths are shown relative to `study_folder`.
    """

    title: str
    question: str
    paths: Mapping[str, Path | None]
    config: StudyConfig
    notes: Sequence[str] = ()
    interval_notes: Sequence[str] = ()
    mpp: Mapping[str, float | None] | None = None
    exclusions: Sequence[Exclusion] = ()
    data_notes: Sequence[str] = ()
    study_folder: Path | None = None
    deidentified: bool = False


def write_evaluation_report(
    page: Page,
    *,
    evaluation: Evaluation,
    rows: TrialRows,
    statistics: Statistics,
    failures: Sequence[Failure],
) -> Path:
    """Write report.html of an evaluation into its folder; its path."""
    path = evaluation.folder / "report.html"
    mined = [row for row in rows.hard_negatives if row.mined.source != "random"]
    bags, arm = evaluation.cohort.bags, study_arm(page, evaluation=evaluation)
    task = evaluation.task
    draw_curves = curve_drawings if task.is_binary else class_curve_drawings
    selection = select_hard_negatives(mined, arm=arm)
    confusion, drawn, attention = _slides(
        page, evaluation=evaluation, rows=rows, arm=arm, selection=selection
    )
    report = Report(
        title=page.title,
        question=page.question,
        data=replace(
            _data(bags, classes=evaluation.classes, task=task, exclusions=page.exclusions),
            n_held_out=len({row.slide_id for row in rows.predictions}),
            notes=page.data_notes,
        ),
        tables=_tables(statistics.whole, page=page),
        classes=[] if task.is_binary else report_classes(statistics, arm=arm, task=task),
        config=config_text(
            page.config,
            kind=bags[0].kind,
            below=page.study_folder or evaluation.folder,
            evaluation=evaluation,
        ),
        run=_record(evaluation.folder) | {"trial_seconds": _trial_seconds(rows.results)},
        failures=failures,
        choices=statistics.choices,
        choice_seconds=_trial_seconds(row for row in rows.results if row.trial.arm == AUTO),
        curves=draw_curves(rows.predictions, arm=arm, statistics=statistics, evaluation=evaluation),
        calibration=calibration_drawing(rows.predictions, arm=arm, positive=evaluation.classes[1])
        if task.is_binary
        else class_calibration_drawing(rows.predictions, arm=arm, task=task),
        confusion=confusion,
        hard_negatives=_pictures(selection, drawn),
        n_hard_negatives=len({row.mined.key for row in mined}),
        n_by_cluster=selection.n_by_cluster,
        clusters_of=selection.training,
        attention=attention,
        diagnoses=diagnoses_of_arm(evaluation, rows=rows, arm=arm),
        about=page.config.about,
    )
    write_report(path, report)
    return path


def study_arm(page: Page, *, evaluation: Evaluation) -> str:
    """The arm that the page shows slide by slide: that of the study, or the first if it was not run."""
    names = [arm.name for arm in evaluation.arms]
    return page.config.arm if page.config.arm in names else names[0]


def write_gallery(path: Path, *, study: Study, found: StudyBags, rows: Sequence[HardNegativeRow]) -> Path:
    """Write the page with the hard negatives of a bundle; its path."""
    selection = select_hard_negatives(rows)
    paths = {row.slide_id: row.path for row in study.slide_table.rows}
    drawn = draw_slides(_with_gallery(selection, {}), paths=paths)
    report = Report(
        title=f"Hard negatives of {study.folder.resolve().name}",
        question="Which patches of negative slides fooled the model, and are they really negative?"
        if study.config.task.is_binary
        else "Which patches of slides of another class fooled the model, and is nothing of the class there?",
        data=_data(
            found.bags,
            classes=study.slide_table.classes,
            task=study.config.task,
            exclusions=exclusions_of(found),
        ),
        tables=(),
        config=config_text(study.config, kind=found.bags[0].kind, below=study.folder),
        run=_record(path.parent),
        hard_negatives=_pictures(selection, drawn),
        n_hard_negatives=len(rows),
        n_by_cluster=selection.n_by_cluster,
        about=study.config.about,
    )
    write_report(path, report)
    return path


def exclusions_of(found: StudyBags) -> list[Exclusion]:
    """The slides of a study that are not used, and why."""
    failed = [Exclusion(failure.name, failure.message) for failure in found.failures]
    empty = [Exclusion(slide_id, NO_PATCH) for slide_id in found.empty]
    return [*failed, *empty, *(Exclusion(slide_id, DOUBTED) for slide_id in found.doubted)]


def _slides(
    page: Page, *, evaluation: Evaluation, rows: TrialRows, arm: str, selection: GallerySelection
) -> tuple[Confusion | None, dict[str, DrawnPictures], list[AttentionPicture]]:
    """The confusion with its pictures, all drawn pictures, and large heat maps; reads each slide once."""
    confusion = confusion_of(rows, arm=arm, evaluation=evaluation)
    if confusion is None:
        return None, draw_slides(_with_gallery(selection, {}), paths=page.paths), []
    is_multi_label = evaluation.task.multi_label
    wrong = confusion.wrong if is_multi_label else wrong_slides(confusion, classes=evaluation.classes)
    highest = _highest(confusion, classes=evaluation.classes, task=evaluation.task)
    found = attention_of_arm(
        evaluation,
        rows=rows,
        arm=arm,
        slide_ids={one.slide_id for one in wrong} | set(highest),
        paths=page.paths,
        mpp=page.mpp or {},
    )
    attention = {name: one for name, one in found.items() if isinstance(one, SlideAttention)}
    wanted = wrong_slide_requests(wrong, shown=attention, rows=rows)
    requests = {request.slide_id: request for request in wanted}
    for slide_id in highest:
        requests.setdefault(slide_id, PictureRequest(slide_id, attention.get(slide_id))).large = True
    drawn = draw_slides(_with_gallery(selection, requests), paths=page.paths)
    pictures = [
        AttentionPicture(large, _attention_words(attention[slide_id], arm=arm))
        for slide_id in highest
        if (large := drawn[slide_id].large) is not None
    ]
    return with_pictures(confusion, drawn=drawn, wrong=wrong, shown=found), drawn, pictures


def _with_gallery(selection: GallerySelection, requests: dict[str, PictureRequest]) -> list[PictureRequest]:
    """These requests, with those for the patches of the gallery."""
    for item in selection.items:
        requests.setdefault(item.slide_id, PictureRequest(item.slide_id)).items.append(item)
    return list(requests.values())


def _pictures(selection: GallerySelection, drawn: Mapping[str, DrawnPictures]) -> list[GalleryPicture]:
    return [drawn[item.slide_id].items[item] for item in selection.items]


def _highest(confusion: Confusion, *, classes: Sequence[str], task: TaskConfig) -> list[str]:
    """The positive and the negative slide with the highest score; of more classes, of each the surest.

    In a multi-label study, of each label that is one of the classes alone.
    """
    found: list[str] = []
    for label in reversed(classes):
        of_label = [one for one in confusion.slides if one.label == label]
        if not task.is_binary:
            of_label = [one for one in of_label if one.called == label]
        found += [max(of_label, key=lambda one: one.bag_score).slide_id] if of_label else []
    return found


def _attention_words(attention: SlideAttention, *, arm: str) -> str:
    shown = f" Attention for {attention.shown_class}." if attention.shown_class else ""
    return (
        f"Slide {attention.slide_id}, labelled {attention.label}, scored {attention.bag_score:.3f} by {arm}: "
        f"the highest-scored {attention.label} slide of those held out{'.' if shown else ''}{shown}"
    )


def _data(
    bags: Sequence[Bag], *, classes: Sequence[str], task: TaskConfig, exclusions: Sequence[Exclusion]
) -> ReportData:
    labels: list[LabelCount] = []
    of_class = task.strata(np.array([bag.label for bag in bags]))
    has_none = [(NONE, ~of_class[:, : len(classes)].any(axis=1))] if task.multi_label else []
    for name, is_in in [*zip(classes, of_class.T, strict=False), *has_none]:
        here = [bag for bag, is_of in zip(bags, is_in.tolist(), strict=True) if is_of]
        n_patches = sum(len(bag) for bag in here)
        labels.append(LabelCount(name, len({bag.case_id for bag in here}), len(here), n_patches))
    return ReportData(
        n_cases=len({bag.case_id for bag in bags}),
        n_slides=len(bags),
        positive=classes[1] if task.is_binary else "",
        negative=classes[0] if task.is_binary else task.negative or "",
        labels=labels,
        exclusions=exclusions,
        classes=task.names,
        is_ordered=task.ordinal,
        is_multi_label=task.multi_label,
    )


def _tables(statistics: Statistics, *, page: Page) -> list[ReportTable]:
    """One table for each split and kind of patches."""
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
            rates=report_rates(statistics, split=split, patches=patches),
            is_repeated=not single,
        )
        for split, patches in keys
    ]


def _arm(one: ArmSummary, summary: Sequence[ArmSummary]) -> ReportArm:
    return ReportArm(
        name=one.arm,
        note="" if parse_arm_name(one.arm).is_centred else NOT_CENTRED,
        values=one.values,
        n_trials=one.n_trials,
        mines=one.mines,
        n_false_positive_bags=one.n_false_positive_bags,
        n_hard=one.n_hard,
        hard_minus_random=hard_minus_random(one, summary=summary),
    )


def config_text(
    config: StudyConfig, *, kind: BagKind, below: Path, evaluation: Evaluation | None = None
) -> str:
    """All settings as YAML, with the defaults they took, and what each arm changes; paths are shortened."""
    content = config.model_dump(mode="json")
    # The task of the networks is what `classes` and the settings below it say.
    content |= resolve_config(model_config(config), kind=kind).model_dump(mode="json", exclude={"task"})
    for arm in evaluation.arms if evaluation else ():
        whole = {
            **arm.model.model_dump(mode="json", exclude={"task"}),
            "mining": arm.mining.model_dump(mode="json"),
        }
        content.setdefault("arms", {})[arm.name] = _difference(whole, content)
    return yaml.safe_dump(shown_paths(content, below=below), sort_keys=False, width=100)


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


def _trial_seconds(results: Iterable[ResultRow]) -> float:
    """The time of these trials; a run that finds them finished takes a second."""
    return sum((row.seconds for row in results if not math.isnan(row.seconds)), 0.0)


def _record(folder: Path) -> dict[str, object]:
    content = read_json(folder / "run.json")
    return content if isinstance(content, dict) else {}

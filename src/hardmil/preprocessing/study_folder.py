"""The folder of a study: settings, table of slides, paths of its files, bags."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bags.collection import FoundBags, collect_bags, notes_on
from hardmil.bags.feature_folder import read_feature_folder
from hardmil.bags.pseudonyms import Pseudonyms, make_pseudonyms, renamed
from hardmil.bags.slide_table import SlideRow, SlideTable, read_slide_table
from hardmil.config.known_encoders import short_name
from hardmil.config.study import StudyConfig, instance_config
from hardmil.config.study_file import FILE_NAME, commented_yaml, read_study
from hardmil.config.task import JOINED, NONE, TaskConfig
from hardmil.errors import BagError, TableError
from hardmil.files.atomic import write_text_once
from hardmil.files.csv_table import columns_by_name, columns_of, table_text
from hardmil.jobs.failures import Failure
from hardmil.preprocessing.instances import read_instances

DEFAULT_STUDY = StudyConfig()


@dataclass(frozen=True, eq=False)
class Study:
    """A study, read and checked."""

    config: StudyConfig
    folder: Path
    slide_table: SlideTable

    @property
    def coords_folder(self) -> Path:
        """Folder of the patch coordinates."""
        return self.folder / "patches"

    @property
    def bags_folder(self) -> Path:
        """Folder of the bags."""
        return self.folder / f"features_{short_name(self.config.encode)}"

    def coords_path(self, slide_id: str) -> Path:
        """File with the patch coordinates of a slide."""
        return self.coords_folder / f"{slide_id}_patches.h5"

    def bag_path(self, slide_id: str) -> Path:
        """File with the bag of a slide."""
        return self.bags_folder / f"{slide_id}.h5"


@dataclass(frozen=True, eq=False)
class StudyBags:
    """The bags of a study in the order of its table; slides without a bag, and slides without a patch.

    `doubted` slides have a bag, which is left out because a reviewer doubts their label or quality.
    """

    bags: Sequence[Bag]
    failures: Sequence[Failure]
    empty: tuple[str, ...] = ()
    doubted: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What a user should know about them."""
        return notes_on(self.bags, empty=self.empty)

    @property
    def left_out(self) -> set[str]:
        """The slides of the table without a bag here."""
        return {failure.name for failure in self.failures} | {*self.empty, *self.doubted}


def create_study(folder: Path, *, slides: Sequence[SlideRow], config: StudyConfig = DEFAULT_STUDY) -> Study:
    """Write study.yaml and the table of slides to a folder; the study in it.

    Args:
        folder: Folder to create; a study in it is kept if it is the same.
        slides: The slides; their paths are written as absolute paths. With `multi_label`, the label of a
            slide is its classes, joined by " + ", or none.
        config: The settings.

    Raises:
        StoreError: If the folder contains another study, or is not writable.
        TableError: If the slides do not make a table: for example, if two have the same id.
    """
    absolute = [
        replace(
            row,
            path=row.path and _absolute(row.path),
            annotations=row.annotations and _absolute(row.annotations),
        )
        for row in slides
    ]
    write_text_once(folder / FILE_NAME, commented_yaml(config))
    write_text_once(folder / config.slides, _slide_table_text(absolute, config=config))
    return open_study(folder)


@dataclass(frozen=True)
class _LabelledRow:
    """A slide that may have several classes: `has` is 1 or 0 by class."""

    slide: SlideRow
    has: Mapping[str, float] = columns_by_name()


def _slide_table_text(slides: Sequence[SlideRow], *, config: StudyConfig) -> str:
    """The table of slides; with `multi_label`, with a column for each class instead of label."""
    task = config.task
    if not task.multi_label:
        return table_text(slides, row=SlideRow)
    rows = [_LabelledRow(row, _classes_of(row, task=task)) for row in slides]
    columns = [name for name in columns_of(_LabelledRow, names=task.names) if name != "label"]
    return table_text(rows, row=_LabelledRow, columns=columns)


def _classes_of(row: SlideRow, *, task: TaskConfig) -> dict[str, float]:
    """1 or 0 by class; empty for a slide without a label, which the table then refuses."""
    if row.label is None:
        return {}
    try:
        label = task.label_of(row.label)
    except ValueError as error:
        raise TableError(
            f'slide {row.slide_id}: label "{row.label}"; expected some of {", ".join(task.names)}, joined by '
            f'"{JOINED}", or {NONE}; correct it'
        ) from error
    return {name: float(task.is_yes(label, branch=k)) for k, name in enumerate(task.names)}


def _absolute(path: Path) -> Path:
    """The path without links; unlike `Path.resolve`, also for a link that leads to itself."""
    return Path(os.path.realpath(path))


def open_study(path: Path, *, overrides: Sequence[str] = ()) -> Study:
    """The study in a study.yaml or its folder.

    Raises:
        ConfigError: If a setting is not known or has a wrong value.
        TableError: If the table of slides cannot be used.
    """
    config, folder = read_study(path, overrides=overrides)
    needs_paths = config.features is None
    slide_table = read_slide_table(
        folder / config.slides,
        positive=config.positive,
        classes=config.classes,
        multi_label=config.multi_label,
        cases=config.cases,
        paths_required=needs_paths,
    )
    return Study(config, folder, slide_table)


def read_bags(study: Study, *, quiet: bool = False) -> StudyBags:
    """The bags of all slides; a slide without one is among the failures.

    Raises:
        BagError: If no slide has a bag, or two differ in kind.
    """
    done = _read(study, quiet=quiet)
    if not done.bags:
        first = done.failures[0].message if done.failures else f"slide {done.empty[0]}: no patch in its bag"
        raise BagError(
            f"{study.folder}: none of {len(study.slide_table.rows)} slides has a bag; first: {first}"
        )
    return StudyBags(list(done.bags.values()), done.failures, done.empty)


def _read(study: Study, *, quiet: bool) -> FoundBags:
    if study.config.features is not None:
        return read_feature_folder(study.folder / study.config.features, study.slide_table, quiet=quiet)

    config = instance_config(study.config)

    def read(row: SlideRow) -> Bag:
        label = study.slide_table.class_index(row)
        path = study.bag_path(row.slide_id)
        return read_instances(row, config=config, path=path, label=label)

    return collect_bags(read, study.slide_table.rows, label="reading bags", quiet=quiet)


def deidentified_study(
    study: Study, found: StudyBags, *, output: Path
) -> tuple[Study, StudyBags, Pseudonyms]:
    """The study and its bags under pseudonyms, with key and table in the study's folder.

    Raises:
        ConfigError: If the key cannot be used, or two ids have the same pseudonym.
        StoreError: If the disk is full, or the folder is not writable.
    """
    rows = study.slide_table.rows
    names = make_pseudonyms(rows, folder=study.folder, output=output)
    table = replace(study.slide_table, rows=tuple(renamed(row, names) for row in rows))
    bags = StudyBags(
        [renamed(bag, names) for bag in found.bags],
        names.failures(found.failures),
        tuple(names.slides[slide_id] for slide_id in found.empty),
        tuple(names.slides[slide_id] for slide_id in found.doubted),
    )
    return replace(study, slide_table=table), bags, names


def slide_name(row: SlideRow) -> str:
    """The name of a slide in a table of failures."""
    return row.slide_id

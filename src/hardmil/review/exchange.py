"""Export and import of verdicts: a table, and QuPath's GeoJSON."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.bag_file import read_coords
from hardmil.bags.feature_folder import find_feature_file, grid_step, read_features
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import HardmilError, TableError
from hardmil.files.csv_table import write_table
from hardmil.files.geojson import Region, read_regions, square, write_regions
from hardmil.files.slide_stem import slide_stem
from hardmil.files.user_table import read_user_table
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, StoredVerdict, VerdictStore
from hardmil.preprocessing.study_folder import Study
from hardmil.review.answers import Answer, check_answers, find_answer, words_of
from hardmil.slides.reader import origin_of
from hardmil.words import count

TABLE = "verdicts.csv"
UNSURE = "unsure"
SOMEONE = "import"
"""The reviewer of imported verdicts whose file names none."""


@dataclass(frozen=True)
class VerdictRow:
    """A row of verdicts.csv, which `mining.verdicts` can name; level-0 px, `at` is ISO 8601 in UTC."""

    slide_id: str
    x: int
    y: int
    verdict: str
    reviewer: str
    size: int
    at: str
    source: str


def export_verdicts(store: VerdictStore, *, folder: Path, study: Study) -> list[Path]:
    """The files written to a folder: verdicts.csv, and GeoJSON for each slide with verdicts.

    GeoJSON has one object for each patch, with the class of the last verdict on it, without unsure ones.

    Raises:
        ConfigError: If a class has the name of another verdict.
        StoreError: If the verdicts cannot be read, or the folder is not writable.
    """
    check_answers(study)
    standing = store.standing()
    rows = [
        VerdictRow(
            *(one.patch.slide_id, one.patch.x, one.patch.y, one.verdict, one.reviewer),
            *(one.patch.size, one.at, one.source),
        )
        for one in standing
    ]
    write_table(folder / TABLE, rows, row=VerdictRow)
    paths = {row.slide_id: row.path for row in study.slide_table.rows}
    by_slide: dict[str, dict[JudgedPatch, StoredVerdict]] = {}
    for one in standing:
        if one.verdict != UNSURE:
            by_slide.setdefault(one.patch.slide_id, {})[one.patch] = one
    written = [folder / TABLE]
    for slide_id, last in by_slide.items():
        regions = [Region(square(patch.x, patch.y, patch.size), one.verdict) for patch, one in last.items()]
        path = folder / f"{slide_id}.geojson"
        write_regions(path, regions, origin=origin_of(paths.get(slide_id)))
        written.append(path)
    return written


@dataclass(frozen=True)
class ImportedFile:
    """What became of the verdicts of a file, in numbers.

    `n_added` were stored, of which `n_moved` are on squares that are no patch today, but hold the centre of
    one. `n_known` were stored already. `not_matched` says why others were not stored, and how many.
    """

    name: str
    n_added: int
    n_moved: int
    n_known: int
    not_matched: Mapping[str, int]

    @property
    def lines(self) -> list[str]:
        """The same in words."""
        moved = f" ({self.n_moved} on squares around a patch's centre)" if self.n_moved else ""
        known = f", {self.n_known} known already" if self.n_known else ""
        lines = [f"{self.name}: {count(self.n_added, 'verdict')} added{moved}{known}"]
        return lines + [f"  not matched: {n} {why}" for why, n in self.not_matched.items()]


@dataclass(frozen=True)
class ImportReport:
    """What became of each file."""

    files: Sequence[ImportedFile]

    @property
    def lines(self) -> list[str]:
        """The report in words."""
        return [line for one in self.files for line in one.lines]


def import_verdicts(
    store: VerdictStore, *, files: Sequence[Path], study: Study, reviewer: str = ""
) -> ImportReport:
    """Verdicts of files added to the store, and what matched.

    A table has columns slide_id, x, y, verdict, and perhaps size, reviewer and at. A GeoJSON file is named
    after its slide; its classes are lesion, normal and artefact, or those of the study. An object that is a
    patch judges this patch; any other area judges the patches whose centres are in it, and of areas that
    overlap the smaller one counts.

    Args:
        store: Where verdicts are added.
        files: Tables (.csv) and GeoJSON files.
        study: The study, for its slides and their patches.
        reviewer: Who gave the verdicts, where a file does not say.

    Raises:
        ConfigError: If a class has the name of another verdict.
        TableError: If a file cannot be read, or a verdict is not known; no verdict of this file is stored.
        StoreError: If the disk is full.
    """
    check_answers(study)
    slides = _Slides(study)
    return ImportReport([_import(store, path, slides=slides, reviewer=reviewer or SOMEONE) for path in files])


@dataclass(frozen=True, eq=False)
class _Grid:
    """The patches of a slide today."""

    coords: Int64[np.ndarray, "patch 2"]
    size: int

    def within(self, corner: tuple[int, int], size: int) -> Literal["same", "centre", ""]:
        """Whether a square is one of the patches, or else holds the centre of one."""
        if size == self.size and (self.coords == corner).all(axis=1).any():
            return "same"
        offset = self.coords + self.size / 2 - corner
        return "centre" if ((offset >= 0) & (offset < size)).all(axis=1).any() else ""


class _Slides:
    """The slides of a study, and their patches, which are read when they are needed."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._grids: dict[str, _Grid | None] = {}
        self.rows = {row.slide_id: row for row in study.slide_table.rows}
        self.words = words_of(study.config.task)

    def answer(self, text: str, *, slide_id: str) -> Answer | None:
        """The verdict that a word means on a slide; None if it means none."""
        row, task = self.rows.get(slide_id), self._study.config.task
        label = -1 if row is None or task.is_binary else self._study.slide_table.class_index(row)
        return find_answer(text, task=task, label=label)

    def label_words(self, slide_id: str) -> str:
        """The label of a slide for an error: in a multi-label study, it says what lesion may mean."""
        return f" on a slide labelled {self.rows[slide_id].label}" if self._study.config.multi_label else ""

    def grid(self, slide_id: str) -> _Grid | None:
        """The patches of a slide; None if there are none, or their places are unknown."""
        if slide_id not in self._grids:
            self._grids[slide_id] = _read_grid(self._study, self.rows[slide_id])
        return self._grids[slide_id]

    def of_file(self, path: Path) -> SlideRow | None:
        """The slide that a file is named after: its id, or the name of its file."""
        named = (row for row in self.rows.values() if row.path and slide_stem(row.path) == path.stem)
        return self.rows.get(path.stem) or next(named, None)


def _read_grid(study: Study, row: SlideRow) -> _Grid | None:
    try:
        if study.config.features is None:
            found = read_coords(study.bag_path(row.slide_id))
            coords, size = found.coords, found.size_level0_px
        else:
            path = find_feature_file(study.folder / study.config.features, slide_id=row.slide_id)
            bag = read_features(path, row, label=-1)
            coords, size = bag.coords, bag.size_level0_px
    except HardmilError:
        return None
    size = size or grid_step(coords)
    return _Grid(coords, size) if len(coords) and size else None


def _import(store: VerdictStore, path: Path, *, slides: _Slides, reviewer: str) -> ImportedFile:
    read = _of_geojson if path.suffix.lower() in (".geojson", ".json") else _of_table
    problems: Counter[str] = Counter()
    found = list(read(path, slides=slides, reviewer=reviewer, problems=problems))
    standing = {(one.reviewer, one.patch): one.verdict for one in store.standing()}
    new = [one for one in found if standing.get((one.reviewer, one.patch)) != one.word]
    store.add(new)
    n_moved = sum(_meets(slides, one.patch) == "centre" for one in new)
    return ImportedFile(path.name, len(new), n_moved, len(found) - len(new), dict(problems))


def _meets(slides: _Slides, patch: JudgedPatch) -> str:
    grid = slides.grid(patch.slide_id)
    return grid.within((patch.x, patch.y), patch.size) if grid else ""


def _of_table(path: Path, *, slides: _Slides, reviewer: str, problems: Counter[str]) -> Iterable[NewVerdict]:
    """The verdicts of a table that meet a patch; the last one of a reviewer on a patch."""
    table = read_user_table(path, what="a table of verdicts, or GeoJSON")
    table.require("slide_id", "x", "y", "verdict")
    found: dict[tuple[str, JudgedPatch], NewVerdict] = {}
    for number, row in table.lines:
        where = f"{path}, line {number}"
        slide_id, text = row["slide_id"], row["verdict"]
        answer = slides.answer(text, slide_id=slide_id)
        if slide_id not in slides.rows:
            problems[f"on slides that the study does not have, such as {slide_id}"] += 1
            continue
        if answer is None:
            raise TableError(
                f"{where}: verdict {text!r}{slides.label_words(slide_id)}; expected one of "
                f"{', '.join(slides.words)}; correct it"
            )
        grid = slides.grid(slide_id)
        x, y = (_whole(row[name], name=name, where=where) for name in ("x", "y"))
        size = _whole(row["size"], name="size", where=where) if row.get("size") else grid.size if grid else 0
        patch = JudgedPatch(slide_id, x, y, size)
        if size <= 0 or not _meets(slides, patch):
            problems[_no_patch(slide_id, grid)] += 1
            continue
        who = row.get("reviewer") or reviewer
        found[who, patch] = NewVerdict(
            *(who, patch, answer.kind, "csv"), at=row.get("at") or None, class_name=answer.class_name
        )
    return found.values()


def _of_geojson(
    path: Path, *, slides: _Slides, reviewer: str, problems: Counter[str]
) -> Iterable[NewVerdict]:
    """The verdicts of the areas in a file of QuPath."""
    row = slides.of_file(path)
    regions = read_regions(path, origin=origin_of(row.path if row else None))
    if row is None:
        problems["areas: no slide of the study has the name of the file"] += len(regions)
        return []
    grid = slides.grid(row.slide_id)
    found: dict[JudgedPatch, NewVerdict] = {}
    for region in sorted(regions, key=_area, reverse=True):
        answer = slides.answer(region.name, slide_id=row.slide_id)
        if answer is None or answer.word == UNSURE:
            name = f"of class {region.name}" if region.name else "without a class"
            words = [word for word in slides.words if word != UNSURE]
            problems[f"areas {name}: expected {', '.join(words)}"] += 1
            continue
        inside = _patches_in(region, grid=grid) if grid else []
        if grid is None or not inside:
            problems[_no_patch(row.slide_id, grid)] += 1
            continue
        for x, y in inside:
            patch = JudgedPatch(row.slide_id, x, y, grid.size)
            found[patch] = NewVerdict(reviewer, patch, answer.kind, "qupath", class_name=answer.class_name)
    return found.values()


def _no_patch(slide_id: str, grid: _Grid | None) -> str:
    why = "the places of its patches are not known" if grid is None else "no patch of today is there"
    return f"on {slide_id}: {why}"


def _patches_in(region: Region, *, grid: _Grid) -> list[tuple[int, int]]:
    """The corners of the patch that an area is, or of those whose centres are in it."""
    import cv2

    low, high = region.polygon.min(axis=0), region.polygon.max(axis=0)
    corner, edges = np.rint(low), np.rint(high - low)
    is_square = len(region.polygon) == 4 and not region.holes and (edges == grid.size).all()
    if is_square and (grid.coords == corner).all(axis=1).any():
        return [(int(corner[0]), int(corner[1]))]
    centres = grid.coords + grid.size / 2
    near = np.flatnonzero(((centres >= low) & (centres <= high)).all(axis=1))

    # Contours of OpenCV are float32, exact for whole numbers below 2**24: distances from the corner are.
    def has(ring: Float[np.ndarray, "point 2"], place: Float[np.ndarray, "2"]) -> bool:
        x, y = (place - low).tolist()
        return cv2.pointPolygonTest((ring - low).astype(np.float32), (x, y), measureDist=False) >= 0

    inside = (
        i
        for i in near.tolist()
        if has(region.polygon, centres[i]) and not any(has(hole, centres[i]) for hole in region.holes)
    )
    return [(int(grid.coords[i, 0]), int(grid.coords[i, 1])) for i in inside]


def _area(region: Region) -> float:
    x, y = region.polygon.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _whole(text: str, *, name: str, where: str) -> int:
    try:
        value = float(text)
        if value % 1 == 0 and abs(value) < 2**40:
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise TableError(f"{where}: {name} is {text!r}; expected a whole number of level-0 px; correct it")

from collections.abc import Sequence
from pathlib import Path

import pytest

from hardmil.bags.slide_table import SlideRow, SlideTable
from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.config.study import StudyConfig
from hardmil.errors import ConfigError
from hardmil.files.geojson import Region, square, write_regions
from hardmil.preprocessing.annotations import check_annotated_classes
from hardmil.preprocessing.study_folder import Study


def _study(folder: Path, *, keep: Sequence[str] = (), drop: Sequence[str] = ()) -> Study:
    """Slides with an annotation roi, with one Artefact: Fold, without one, and with a broken file."""
    for slide_id, name in (("a", "roi"), ("b", "Artefact: Fold")):
        write_regions(folder / f"{slide_id}.geojson", [Region(square(0, 0, 9), name)])
    (folder / "d.geojson").write_text("no json")
    rows = [
        SlideRow(slide_id, slide_id, annotations=None if slide_id == "c" else folder / f"{slide_id}.geojson")
        for slide_id in "abcd"
    ]
    tissue = TissueConfig(keep=tuple(keep), drop=tuple(drop))
    config = StudyConfig(patches=PatchConfig(tissue=tissue))
    return Study(config, folder, SlideTable(tuple(rows), ("0", "1")))


def test_classes_that_an_annotation_has_are_accepted(tmp_path: Path):
    check_annotated_classes(_study(tmp_path))
    check_annotated_classes(_study(tmp_path, keep=["roi"], drop=["Artefact: Fold"]))
    check_annotated_classes(_study(tmp_path, keep=["*"], drop=["*"]))


@pytest.mark.parametrize(("setting", "names"), [("keep", ["roi", "Roi"]), ("drop", ["*", "Fold"])])
def test_a_class_that_no_annotation_has_is_refused(tmp_path: Path, setting: str, names: list[str]):
    message = rf'tissue\.{setting} names "{names[1]}", which no annotation .* has; found Artefact: Fold, roi;'
    with pytest.raises(ConfigError, match=message):
        check_annotated_classes(_study(tmp_path, **{setting: names}))


def test_a_study_without_annotations_says_so(tmp_path: Path):
    study = _study(tmp_path, keep=["roi"])
    (row,) = [row for row in study.slide_table.rows if row.annotations is None]
    with pytest.raises(ConfigError, match=r'names "roi", .*; found no annotations; .*annotations column'):
        check_annotated_classes(Study(study.config, tmp_path, SlideTable((row,), ("0", "1"))))

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_classes import write_class_study
from tests.support.many_labels import write_multi_study
from tests.support.reviews import SIZE, write_reviewed_study
from tests.support.scanned_area import ORIGIN, write_scn
from tests.support.studies import read_csv

from hardmil.errors import TableError
from hardmil.files.geojson import Region, read_regions, square, write_regions
from hardmil.mining.verdict_matching import match_verdicts, read_review
from hardmil.mining.verdict_store import JudgedPatch, NewVerdict, Verdict, VerdictStore
from hardmil.mining.verdicts import read_verdicts
from hardmil.preprocessing.study_folder import Study, open_study, read_bags
from hardmil.review.answers import find_answer
from hardmil.review.exchange import ImportedFile, export_verdicts, import_verdicts

# Patches of a slide: six columns and five rows of 64 px.


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_reviewed_study(tmp_path / "study")


@pytest.fixture
def store(study: Study) -> Iterator[VerdictStore]:
    with VerdictStore(study.folder / "review.sqlite") as opened:
        yield opened


def _new(slide: str, column: int, row: int, verdict: Verdict, reviewer: str = "jo") -> NewVerdict:
    return NewVerdict(reviewer, JudgedPatch(slide, column * SIZE, row * SIZE, SIZE), verdict, "queue")


def _places(store: VerdictStore) -> dict[tuple[str, int, int], str]:
    """Verdicts by slide, column and row."""
    return {
        (one.patch.slide_id, one.patch.x // SIZE, one.patch.y // SIZE): one.verdict
        for one in store.standing()
    }


def _file(folder: Path, *lines: str, head: str = "slide_id,x,y,verdict") -> Path:
    path = folder / "other.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def _one(store: VerdictStore, path: Path, *, study: Study, reviewer: str = "al") -> ImportedFile:
    (found,) = import_verdicts(store, files=[path], study=study, reviewer=reviewer).files
    return found


def test_what_goes_out_comes_in_again(store: VerdictStore, study: Study, tmp_path: Path):
    store.add([_new("s1", 0, 0, "lesion"), _new("s1", 5, 4, "artefact"), _new("s2", 1, 0, "unsure")])
    store.add([_new("s1", 0, 0, "normal", reviewer="al")])
    written = export_verdicts(store, folder=tmp_path / "out", study=study)
    assert [path.name for path in written] == ["verdicts.csv", "s1.geojson"]
    with VerdictStore(tmp_path / "again.sqlite") as again:
        found = import_verdicts(again, files=written[:1], study=study)
        assert found.lines == ["verdicts.csv: 4 verdicts added"]
        kept = [(one.reviewer, one.patch, one.verdict, one.at) for one in store.standing()]
        assert [(one.reviewer, one.patch, one.verdict, one.at) for one in again.standing()] == kept
        assert {one.source for one in again.standing()} == {"csv"}
        assert import_verdicts(again, files=written[:1], study=study).lines == [
            "verdicts.csv: 0 verdicts added, 4 known already"
        ]
    with VerdictStore(tmp_path / "qupath.sqlite") as again:
        assert _one(again, written[1], study=study).n_added == 2
        # The last verdict on a patch, whoever gave it.
        assert _places(again) == {("s1", 0, 0): "normal", ("s1", 5, 4): "artefact"}


def test_an_exported_table_can_be_named_in_the_settings(store: VerdictStore, study: Study, tmp_path: Path):
    store.add([_new("s1", 1, 0, "lesion"), _new("s2", 0, 0, "artefact")])
    path, *_ = export_verdicts(store, folder=tmp_path / "out", study=study)
    found = read_verdicts(path, read_bags(study, quiet=True).bags)
    assert (found["s1"][1], found["s2"][0], np.isfinite(found["s1"]).sum()) == (1, -1, 1)


def test_a_plain_table_has_the_size_of_the_patches_and_the_given_reviewer(
    store: VerdictStore, study: Study, tmp_path: Path
):
    found = _one(store, _file(tmp_path, "s1,64,0,Lesion", "s1,64.0,0,artifact"), study=study)
    assert (found.n_added, found.n_moved) == (1, 0)
    (one,) = store.standing()
    assert (one.patch, one.verdict, one.reviewer) == (JudgedPatch("s1", 64, 0, SIZE), "artefact", "al")


def test_a_table_says_what_did_not_match(store: VerdictStore, study: Study, tmp_path: Path):
    path = _file(
        tmp_path,
        *("s1,10,10,64,lesion", "s1,900,0,64,lesion", "s99,0,0,64,lesion", "s1,1,1,9,normal"),
        head="slide_id,x,y,size,verdict",
    )
    found = _one(store, path, study=study)
    assert (found.n_added, found.n_moved) == (1, 1)
    assert found.lines == [
        "other.csv: 1 verdict added (1 on squares around a patch's centre)",
        "  not matched: 2 on s1: no patch of today is there",
        "  not matched: 1 on slides that the study does not have, such as s99",
    ]


def test_geojson_starts_at_the_scanned_area_as_qupath_shows_it(tmp_path: Path):
    study = write_reviewed_study(tmp_path / "study")
    write_scn(study.folder / "s1.scn")
    rows = [replace(row, path=study.folder / "s1.scn") for row in study.slide_table.rows[1:2]]
    study = replace(study, slide_table=replace(study.slide_table, rows=tuple(rows)))
    corner = (16 * SIZE, 32 * SIZE)
    with h5py.File(study.folder / "feats" / "s1.h5", "a") as file:
        coords = file["coords"]
        assert isinstance(coords, h5py.Dataset)
        coords[...] = np.asarray(coords) + corner
    patch = JudgedPatch("s1", *corner, SIZE)
    with VerdictStore(study.folder / "review.sqlite") as store:
        store.add([NewVerdict("jo", patch, "lesion", "queue")])
        _, path = export_verdicts(store, folder=tmp_path / "out", study=study)
        (region,) = read_regions(path)
        assert tuple(region.polygon[0]) == (corner[0] - ORIGIN[0], corner[1] - ORIGIN[1])
        assert _one(store, path, study=study).n_added == 1
        assert {one.patch for one in store.standing()} == {patch}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("s1,0,0,tumour", r"other\.csv, line 2: verdict 'tumour'; expected one of lesion, normal"),
        ("s1,0.5,0,lesion", r"line 2: x is '0\.5'; expected a whole number"),
        ("s1,0,,lesion", "line 2: y is ''; expected a whole number"),
    ],
)
def test_wrong_lines_are_named_and_nothing_is_stored(
    store: VerdictStore, study: Study, tmp_path: Path, line: str, message: str
):
    with pytest.raises(TableError, match=message):
        import_verdicts(store, files=[_file(tmp_path, line, "s1,0,0,lesion")], study=study)
    assert store.verdicts() == []


def test_areas_judge_the_patches_whose_centres_they_hold(store: VerdictStore, study: Study, tmp_path: Path):
    triangle = np.array([[0, 0], [3 * SIZE, 0], [0, 3 * SIZE]], dtype=np.float64)
    hole = square(0, 0, SIZE)
    path = tmp_path / "s3.geojson"
    write_regions(path, [Region(triangle, "Normal", holes=(hole,)), Region(square(60, 5, 40), "lesion")])
    found = _one(store, path, study=study)
    # The lesion is smaller, and so counts where it overlaps; (0, 0) is in the hole.
    assert _places(store) == {
        **dict.fromkeys([("s3", 2, 0), ("s3", 0, 1), ("s3", 1, 1), ("s3", 0, 2)], "normal"),
        ("s3", 1, 0): "lesion",
    }
    assert (found.n_added, found.not_matched) == (5, {})
    assert {one.source for one in store.standing()} == {"qupath"}


def test_a_file_of_qupath_says_what_did_not_match(store: VerdictStore, study: Study, tmp_path: Path):
    path = tmp_path / "s3.geojson"
    regions = [Region(square(0, 0, 9), "lesion"), Region(square(0, 0, SIZE), "Tumor")]
    write_regions(path, [*regions, Region(square(0, 0, SIZE), "")])
    assert _one(store, path, study=study).lines == [
        "s3.geojson: 0 verdicts added",
        "  not matched: 1 areas of class Tumor: expected lesion, normal, artefact",
        "  not matched: 1 areas without a class: expected lesion, normal, artefact",
        "  not matched: 1 on s3: no patch of today is there",
    ]
    elsewhere = path.rename(tmp_path / "elsewhere.geojson")
    assert _one(store, elsewhere, study=study).lines[1:] == [
        "  not matched: 3 areas: no slide of the study has the name of the file"
    ]
    path.write_text(json.dumps({"type": "nothing"}), encoding="utf-8")
    with pytest.raises(TableError, match="is not GeoJSON"):
        import_verdicts(store, files=[path], study=study)


def test_verdicts_that_name_classes_go_out_and_are_trained_with(tmp_path: Path):
    study = open_study(write_class_study(tmp_path / "study"))
    said = {("s1", 0): "a", ("s1", 1): "normal", ("s2", 0): "b", ("s2", 1): "artefact", ("s2", 2): "unsure"}
    with VerdictStore(study.folder / "review.sqlite") as store:
        for (slide, place), word in said.items():
            answer = find_answer(word, task=study.config.task, label=-1)
            assert answer is not None
            patch = JudgedPatch(slide, place * 256, 512, 256)
            new = NewVerdict("jo", patch, answer.kind, "queue", class_name=answer.class_name)
            store.add([new])
        table, *regions = export_verdicts(store, folder=tmp_path / "out", study=study)
        kept = [(one.patch, one.verdict) for one in store.standing()]
    assert [row["verdict"] for row in read_csv(table)] == list(said.values())
    bags = read_bags(study, quiet=True).bags
    found = read_verdicts(table, bags, task=study.config.task)
    np.testing.assert_array_equal(found["s1"][:3], [2, 0, np.nan])
    np.testing.assert_array_equal(found["s2"][:3], [3, -1, np.nan])
    matched = match_verdicts(read_review(study.folder).verdicts, bags, task=study.config.task)
    for bag in bags:
        np.testing.assert_array_equal(matched.used[bag.slide_id], found[bag.slide_id])
    with VerdictStore(tmp_path / "again.sqlite") as again:
        import_verdicts(again, files=[table], study=study)
        assert [(one.patch, one.verdict) for one in again.standing()] == kept
    with VerdictStore(tmp_path / "qupath.sqlite") as again:
        assert sum(_one(again, path, study=study).n_added for path in regions) == 4
        assert {(one.patch, one.verdict) for one in again.standing()} == {*kept[:-1]}


def test_a_lesion_of_a_file_is_the_class_of_its_slide(tmp_path: Path):
    study = open_study(write_class_study(tmp_path / "study"))
    with VerdictStore(study.folder / "review.sqlite") as store:
        table = _file(tmp_path, "s1,0,512,lesion", "s2,0,512,B", "s0,0,512,Normal")
        assert _one(store, table, study=study).n_added == 3
        assert [(one.patch.slide_id, one.verdict) for one in store.standing()] == [
            *[("s1", "a"), ("s2", "b"), ("s0", "normal")]
        ]
        with pytest.raises(
            TableError, match=r"line 2: verdict 'lesion'; expected one of normal, a, b, artefact"
        ):
            _one(store, _file(tmp_path, "s0,0,512,lesion"), study=study)


def test_verdicts_on_slides_of_several_labels_go_out_and_come_in(tmp_path: Path):
    study = open_study(write_multi_study(tmp_path / "study"))
    lines = ["s3,0,512,a", "s3,256,512,none", "s3,512,512,artefact", "s4,0,512,lesion", "s5,0,512,C"]
    with VerdictStore(study.folder / "review.sqlite") as store:
        assert _one(store, _file(tmp_path, *lines), study=study).n_added == 5
        with pytest.raises(
            TableError, match=r"verdict 'lesion' on a slide labelled a \+ b; expected one of a, b, c, normal"
        ):
            _one(store, _file(tmp_path, "s3,0,512,lesion"), study=study)
        table, *regions = export_verdicts(store, folder=tmp_path / "out", study=study)
        kept = {(one.patch, one.verdict) for one in store.standing()}
    assert [row["verdict"] for row in read_csv(table)] == ["a", "normal", "artefact", "c", "c"]
    bags = read_bags(study, quiet=True).bags
    found = read_verdicts(table, bags, task=study.config.task)
    np.testing.assert_array_equal(found["s3"][:4], [1, 0, -1, np.nan])
    np.testing.assert_array_equal(found["s4"][:2], [3, np.nan])
    matched = match_verdicts(read_review(study.folder).verdicts, bags, task=study.config.task)
    for bag in bags:
        np.testing.assert_array_equal(matched.used[bag.slide_id], found[bag.slide_id])
    with VerdictStore(tmp_path / "qupath.sqlite") as again:
        assert sum(_one(again, path, study=study).n_added for path in regions) == 5
        assert {(one.patch, one.verdict) for one in again.standing()} == kept

"""Pseudonyms are the same for the same key, and key and table never lie in the output."""

import hmac
import re
from pathlib import Path

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.bags.pseudonyms import (
    KEY,
    TABLE,
    PseudonymRow,
    check_only_deidentified,
    make_pseudonyms,
    renamed,
)
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import ConfigError, StoreError
from hardmil.files.atomic import write_json
from hardmil.files.csv_table import read_table
from hardmil.jobs.failures import Failure

ROWS = [SlideRow("a1", "anna"), SlideRow("a2", "anna"), SlideRow("b", "b", "tumour", Path("x/b.svs"))]


def test_a_pseudonym_is_the_hmac_of_the_id(tmp_path: Path):
    names = make_pseudonyms(ROWS, folder=tmp_path, output=tmp_path / "out")
    key = bytes.fromhex((tmp_path / KEY).read_text())
    digest = hmac.new(key, b"slide\0a1", "sha256").hexdigest()
    assert names.slides["a1"] == f"slide-{digest[:8]}"
    assert re.fullmatch("case-[0-9a-f]{8}", names.cases["a1"])
    assert names.cases["a1"] == names.cases["a2"] != names.cases["b"]
    assert len({*names.slides.values()}) == 3
    assert names.cases["b"][-8:] != names.slides["b"][-8:], "a case named as its slide"


def test_the_same_key_gives_the_same_names_and_the_table_grows(tmp_path: Path):
    first = make_pseudonyms(ROWS[:2], folder=tmp_path, output=tmp_path / "out")
    second = make_pseudonyms(ROWS[1:], folder=tmp_path, output=tmp_path / "out")
    assert first.slides["a2"] == second.slides["a2"]
    table = read_table(tmp_path / TABLE, PseudonymRow)
    assert {(row.kind, row.original) for row in table} == {
        *(("slide", name) for name in ("a1", "a2", "b")),
        *(("case", name) for name in ("anna", "b")),
    }
    assert len(table) == 5
    assert (tmp_path / KEY).stat().st_mode & 0o077 == (tmp_path / TABLE).stat().st_mode & 0o077 == 0


def test_another_key_gives_other_names(tmp_path: Path):
    names = [make_pseudonyms(ROWS, folder=tmp_path / one, output=tmp_path / "out") for one in "xy"]
    assert {*names[0].slides.values()}.isdisjoint(names[1].slides.values())


def test_bags_and_rows_are_renamed_and_their_paths_stay(tmp_path: Path):
    names = make_pseudonyms(ROWS, folder=tmp_path, output=tmp_path / "out")
    row = renamed(ROWS[2], names)
    assert (row.slide_id, row.case_id) == (names.slides["b"], names.cases["b"])
    assert (row.label, row.path) == ("tumour", Path("x/b.svs"))
    features, coords = np.ones((2, 3), np.float32), np.zeros((2, 2), np.int64)
    bag = renamed(Bag("a2", "anna", 1, features, coords, 0), names)
    assert (bag.slide_id, bag.case_id, bag.label) == (names.slides["a2"], names.cases["a1"], 1)
    assert renamed(ROWS[0], None) is ROWS[0]


def test_failures_keep_neither_message_nor_traceback(tmp_path: Path):
    names = make_pseudonyms(ROWS, folder=tmp_path, output=tmp_path / "out")
    (failure,) = names.failures([Failure("b", "x/b.svs: no such file", "File x/b.svs")])
    assert failure.name == names.slides["b"]
    assert "b.svs" not in failure.message + failure.traceback


@pytest.mark.parametrize("output", [".", "..", "../other/.."])
def test_key_and_table_must_not_be_in_the_output(tmp_path: Path, output: str):
    (tmp_path / "other").mkdir()
    study = tmp_path / "study"
    study.mkdir()
    with pytest.raises(ConfigError, match="must not leave with it"):
        make_pseudonyms(ROWS, folder=study, output=study / output)
    assert not list(study.iterdir())


@pytest.mark.parametrize("content", ["", "zz", "00" * 31, "\u00e9"])
def test_a_damaged_key_is_named(tmp_path: Path, content: str):
    (tmp_path / KEY).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"deidentify\.key: not a key .* restore it"):
        make_pseudonyms(ROWS, folder=tmp_path, output=tmp_path / "out")


def test_two_ids_with_one_pseudonym_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hardmil.bags.pseudonyms.N_DIGITS", 0)
    with pytest.raises(ConfigError, match="a1 and a2 have the same pseudonym slide-"):
        make_pseudonyms(ROWS, folder=tmp_path, output=tmp_path / "out")


def test_only_new_and_deidentified_folders_are_written_to(tmp_path: Path):
    check_only_deidentified(tmp_path / "new")
    check_only_deidentified(tmp_path)
    (tmp_path / "0017.geojson").write_text("")
    with pytest.raises(StoreError, match="may not be de-identified"):
        check_only_deidentified(tmp_path)
    write_json(tmp_path / "run.json", {"arguments": []})
    with pytest.raises(StoreError, match="may not be de-identified"):
        check_only_deidentified(tmp_path)
    write_json(tmp_path / "run.json", {"deidentified": True})
    check_only_deidentified(tmp_path)

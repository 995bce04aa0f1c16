"""Slides that share batches, in workers: some at once, and none the worse for a bad neighbour."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from tests.support.studies import read_csv

from hardmil.bags.slide_table import SlideRow
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import Engine
from hardmil.jobs.run import JobResults
from hardmil.preprocessing.process_slides import RunOptions, SlideResult, Stage, process_slides
from hardmil.preprocessing.study_folder import Study

ON_TWO = RunOptions(Engine(workers=2), quiet=True)


def never(study: Study, row: SlideRow) -> SlideResult:
    raise AssertionError("slides were to be done together")


def note(
    fatal: str, folder: Path, study: Study, rows: Sequence[SlideRow], options: RunOptions
) -> JobResults[SlideResult | None]:
    """Notes which slides came together; one fails, and one ends the process."""
    names = [row.slide_id for row in rows]
    with (folder / f"{os.getpid()}.txt").open("a") as file:
        file.write("|".join(names) + "\n")
    if fatal in names:
        os._exit(9)
    failures = [Failure("001 a", "is bad", "")] if "001 a" in names else []
    return JobResults({name: SlideResult(len(name)) for name in names if name != "001 a"}, failures)


def groups(folder: Path) -> list[list[str]]:
    return [line.split("|") for path in folder.glob("*.txt") for line in path.read_text().splitlines()]


def test_a_worker_takes_some_slides_at_once(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hardmil.preprocessing.process_slides.JOBS_PER_WORKER", 2)
    ids = [row["slide_id"] for row in read_csv(study / "slides.csv")]
    stage = Stage("encode", "noting", never, partial(note, "nobody", tmp_path))
    done = process_slides(study, stage, overrides=(), options=ON_TWO)
    assert sorted(groups(tmp_path)) == sorted(ids[start : start + 2] for start in range(0, 8, 2))
    assert [failure.message for failure in done.failures] == ["is bad"]
    assert dict(done.patches) == {name: len(name) for name in ids if name != "001 a"}


def test_a_slide_that_ends_its_worker_is_alone_in_its_failure(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hardmil.preprocessing.process_slides.JOBS_PER_WORKER", 1)
    ids = [row["slide_id"] for row in read_csv(study / "slides.csv")]
    stage = Stage("encode", "noting", never, partial(note, ids[5], tmp_path))
    done = process_slides(study, stage, overrides=(), options=ON_TWO)
    assert [failure.name for failure in done.failures] == ["001 a", ids[5]]
    assert "its worker died 3 times" in done.failures[1].message
    assert list(done.patches) == [name for name in ids if name not in ("001 a", ids[5])]

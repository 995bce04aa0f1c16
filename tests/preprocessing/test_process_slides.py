"""Many slides: workers, batches, runs that share a folder, slides that hang."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from tests.support.studies import Hardmil, coords_of, read_csv
from tests.support.waiting import PATIENCE_S

from hardmil.bags.slide_table import SlideRow
from hardmil.jobs.failures import Failure
from hardmil.jobs.pool import Engine
from hardmil.jobs.run import JobResults
from hardmil.preprocessing.process_slides import (
    BatchFunction,
    RunOptions,
    SlideResult,
    Stage,
    process_slides,
    waiting_line,
)
from hardmil.preprocessing.study_folder import Study, open_study


def test_two_workers_write_what_one_writes(hardmil: Hardmil, study: Path):
    assert hardmil("patch", study).code == 0
    alone = coords_of(study)
    for path in (study / "patches").glob("*.h5"):
        path.unlink()
    run = hardmil("patch", study, "--workers", 2, "--json")
    assert run.code == 0, run.err
    said = json.loads(run.out)
    assert (said["slides"], said["patches"], said["empty"]) == (8, sum(map(len, alone.values())), [])
    assert coords_of(study) == alone
    assert len(alone) == 8
    assert hardmil("encode", study, "--workers", 2).code == 0
    assert len(list((study / "features_pixels").glob("*.h5"))) == 8


def test_ray_writes_what_one_writes(hardmil: Hardmil, study: Path):
    assert hardmil("patch", study).code == 0
    alone = coords_of(study)
    for path in (study / "patches").glob("*.h5"):
        path.unlink()
    run = hardmil("patch", study, "--engine", "ray", "--workers", 2)
    assert run.code == 0, run.err
    assert coords_of(study) == alone


# Opening one slide never returns, as on a network disk that is gone.
HANGS = """
import sys, time
from hardmil.cli import main
from hardmil.preprocessing import patch_coords
plain = patch_coords.open_slide
def hanging(path):
    if path.stem == "000 a":
        time.sleep(10000)
    return plain(path)
patch_coords.open_slide = hanging
sys.argv = ["hardmil", *sys.argv[1:]]
main()
"""


def test_slide_that_hangs_is_set_aside(study: Path):
    call = [sys.executable, "-c", HANGS, "patch", str(study), "--max-minutes", "0.2"]
    run = subprocess.run(call, capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 1
    (failed,) = read_csv(study / "patches" / "failures.csv")
    assert failed["name"] == "000 a"
    assert "0.2 minutes" in failed["message"]
    assert len(coords_of(study)) == 7


def test_two_runs_share_a_folder(study: Path):
    """Each slide is processed once, and both runs know all of them in the end."""
    call = [sys.executable, "-m", "hardmil", "patch", str(study), "--json"]
    runs = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(run.communicate(timeout=PATIENCE_S)[0]) for run in runs]
    assert [(one["slides"], one["failures"]) for one in said] == [(8, {})] * 2
    assert said[0]["patches"] == said[1]["patches"]
    assert not list((study / "patches").glob(".*"))


def test_slide_that_another_run_works_on_is_waited_for(study: Path):
    """The lock of a run on another machine, which is removed once the other slides are done."""
    held = study / "patches" / ".004 a_patches.h5.lock"
    held.parent.mkdir()
    held.write_text(json.dumps({"host": "node-17", "pid": 1, "id": "x"}))
    call = [sys.executable, "-m", "hardmil", "patch", str(study), "--json"]
    run = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    waits = "waiting for 1 slide that another run works on (process 1 on node-17): 004 a\n"
    assert any(line == waits for line in run.stderr), "the command ended"
    assert len(coords_of(study)) == 7
    held.unlink()
    assert json.loads(run.communicate(timeout=PATIENCE_S)[0])["slides"] == 8
    assert len(coords_of(study)) == 8


ON_TWO_WORKERS = RunOptions(Engine(workers=2), quiet=True)


def never_alone(study: Study, row: SlideRow) -> SlideResult:
    raise AssertionError("slides were to be done together")


def record_batch(
    fatal: str, folder: Path, study: Study, rows: Sequence[SlideRow], options: RunOptions
) -> JobResults[SlideResult | None]:
    """Writes down which slides came together; one fails, and one ends the process."""
    names = [row.slide_id for row in rows]
    with (folder / f"{os.getpid()}.txt").open("a") as file:
        file.write("|".join(names) + "\n")
    if fatal in names:
        os._exit(9)
    failures = [Failure("001 a", "is bad", "")] if "001 a" in names else []
    return JobResults({name: SlideResult(len(name)) for name in names if name != "001 a"}, failures)


def stage_of(batch: BatchFunction, folder: Path) -> Stage:
    return Stage("encode", "recording", folder / "out", never_alone, batch)


def batches_in(folder: Path) -> list[list[str]]:
    return [line.split("|") for path in folder.glob("*.txt") for line in path.read_text().splitlines()]


def test_a_worker_takes_some_slides_at_once(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hardmil.preprocessing.process_slides.JOBS_PER_WORKER", 2)
    opened = open_study(study)
    ids = [row.slide_id for row in opened.slide_table.rows]
    stage = Stage(
        "encode", "noting", tmp_path / "out", never_alone, partial(record_batch, "nobody", tmp_path)
    )
    done = process_slides(opened, stage, options=ON_TWO_WORKERS)
    assert sorted(batches_in(tmp_path)) == sorted(ids[start : start + 2] for start in range(0, 8, 2))
    assert [failure.message for failure in done.failures] == ["is bad"]
    assert dict(done.patches) == {name: len(name) for name in ids if name != "001 a"}


def test_a_slide_that_ends_its_worker_is_alone_in_its_failure(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hardmil.preprocessing.process_slides.JOBS_PER_WORKER", 1)
    opened = open_study(study)
    ids = [row.slide_id for row in opened.slide_table.rows]
    stage = stage_of(partial(record_batch, ids[5], tmp_path), tmp_path)
    done = process_slides(opened, stage, options=ON_TWO_WORKERS)
    assert [failure.name for failure in done.failures] == ["001 a", ids[5]]
    assert "its worker died 3 times" in done.failures[1].message
    assert list(done.patches) == [name for name in ids if name not in ("001 a", ids[5])]


def test_what_is_waited_for_and_for_how_long(tmp_path: Path):
    line = waiting_line(["a", "b", "c", "d"], folder=tmp_path, seconds=130.0)
    what = "4 slides that another run works on (has just ended), for 2 min now: a, b, c and 1 more"
    assert line == f"waiting for {what}"


def test_missing_slides_are_named_and_given_to_no_worker(study: Path, tmp_path: Path):
    """Unless something was made of them before."""
    opened = open_study(study)
    ids = [row.slide_id for row in opened.slide_table.rows]
    for row in opened.slide_table.rows[2:5]:
        assert row.path is not None
        row.path.unlink()
    opened.coords_folder.mkdir()
    opened.coords_path(ids[4]).touch()
    stage = stage_of(partial(record_batch, "nobody", tmp_path), tmp_path)
    done = process_slides(opened, stage, options=ON_TWO_WORKERS)
    assert sorted(name for batch in batches_in(tmp_path) for name in batch) == sorted({*ids} - {*ids[2:4]})
    assert [failure.name for failure in done.failures] == ["001 a", *ids[2:4]]
    assert all("there is no such file" in failure.message for failure in done.failures[1:])

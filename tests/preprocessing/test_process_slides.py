"""patch and encode over many slides: workers, runs that share a folder, slides that are empty or hang."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.support.studies import Hardmil, read_csv, write_csv
from tests.support.waiting import wait_until

from hardmil.files.atomic import visible
from hardmil.files.geojson import Region, read_regions, square, write_regions


def _coords(study: Path) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for path in visible((study / "patches").glob("*.h5")):
        with h5py.File(path) as file:
            found[path.name] = file["coords"][()].tolist()
    return found


def _in_place_of(study: Path, name: str) -> Path:
    """Where the slide of a row lies."""
    row = next(row for row in read_csv(study / "slides.csv") if row["slide_id"] == name)
    return study / row["path"]


def test_two_workers_write_what_one_writes(hardmil: Hardmil, study: Path):
    assert hardmil("patch", study).code == 0
    alone = _coords(study)
    for path in (study / "patches").glob("*.h5"):
        path.unlink()
    run = hardmil("patch", study, "--workers", 2, "--json")
    assert run.code == 0, run.err
    said = json.loads(run.out.splitlines()[-1])
    assert (said["slides"], said["patches"], said["empty"]) == (8, sum(map(len, alone.values())), [])
    assert _coords(study) == alone
    assert len(alone) == 8
    assert hardmil("encode", study, "--workers", 2).code == 0
    assert len(list((study / "features_pixels").glob("*.h5"))) == 8


@pytest.mark.slow
def test_ray_writes_what_one_writes(hardmil: Hardmil, study: Path):
    assert hardmil("patch", study).code == 0
    alone = _coords(study)
    for path in (study / "patches").glob("*.h5"):
        path.unlink()
    run = hardmil("patch", study, "--engine", "ray", "--workers", 2)
    assert run.code == 0, run.err
    assert _coords(study) == alone


def test_mask_outline_and_picture_lie_beside_the_places(hardmil: Hardmil, study: Path):
    run = hardmil("patch", study)
    sheet = study / "patches" / "contact_sheet.html"
    assert f"contact sheet: {sheet}" in run.out
    assert re.search(r"on 8 slides in \S.*patches \([\d.]+/(s|min)\)", run.out)
    with Image.open(study / "patches" / "tissue" / "003 a.png") as mask:
        assert mask.size == (210, 150)
        assert mask.text == {"level0_px_per_px": "1.0", "slide": "003 a.tif"}
        is_tissue = np.asarray(mask) == 255
    assert is_tissue[20:-20, 25:-25].mean() > 0.98
    assert not is_tissue[:8].any()
    (outline,) = read_regions(study / "patches" / "tissue" / "003 a.geojson")
    assert outline.name == "tissue"
    np.testing.assert_allclose(outline.polygon.min(axis=0), (15, 10), atol=1)
    with Image.open(study / "patches" / "tissue" / "003 a.jpg") as picture:
        assert picture.size == (210, 150)
    page = sheet.read_text()
    assert page.count("<li>") == 8
    assert 'src="tissue/003%20a.jpg"' in page


def test_slide_without_tissue_is_named_and_goes_on_as_an_empty_bag(hardmil: Hardmil, study: Path):
    Image.new("RGB", (210, 150), (245, 245, 245)).save(_in_place_of(study, "002 a"))
    run = hardmil("patch", study)
    assert run.code == 0, run.err
    assert "1 slide without a patch of 25% tissue: 002 a; look at the contact sheet" in run.out
    assert _coords(study)["002 a_patches.h5"] == []
    page = (study / "patches" / "contact_sheet.html").read_text()
    assert "<strong>1 to look at first</strong>" in page
    assert page.index("002 a") < page.index("000 a")
    assert "no patch holds enough tissue" in page


def test_slide_that_hangs_is_set_aside(study: Path):
    """A pipe that nobody writes to: opening it never returns, as on a network disk that is gone."""
    slide = _in_place_of(study, "000 a")
    slide.unlink()
    os.mkfifo(slide)
    call = [sys.executable, "-m", "hardmil.cli", "patch", str(study), "--max-minutes", "0.05"]
    run = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    (failed,) = read_csv(study / "patches" / "failures.csv")
    assert failed["name"] == "000 a"
    assert "0.05 minutes" in failed["message"]
    assert len(_coords(study)) == 7


def test_two_runs_share_a_folder(study: Path):
    """Each slide is cut once, and both runs know all of them in the end."""
    call = [sys.executable, "-m", "hardmil.cli", "patch", str(study), "--json"]
    runs = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(run.communicate(timeout=120)[0].splitlines()[-1]) for run in runs]
    assert [(one["slides"], one["failures"]) for one in said] == [(8, {})] * 2
    assert said[0]["patches"] == said[1]["patches"]
    assert not list((study / "patches").glob(".*"))


def test_slide_that_another_run_works_on_is_waited_for(study: Path):
    """The lock of a run on another machine, which is removed once the other slides are done."""
    held = study / "patches" / ".004 a_patches.h5.lock"
    held.parent.mkdir()
    held.write_text(json.dumps({"host": "node-17", "pid": 1, "id": "x"}))
    call = [sys.executable, "-m", "hardmil.cli", "patch", str(study), "--json"]
    run = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: len(_coords(study)) == 7)
    assert run.poll() is None
    held.unlink()
    assert json.loads(run.communicate(timeout=240)[0].splitlines()[-1])["slides"] == 8
    assert len(_coords(study)) == 8


def test_what_is_odd_about_a_slide_is_said_and_said_again(
    hardmil: Hardmil, study: Path, monkeypatch: pytest.MonkeyPatch
):
    rows: list[dict[str, object]] = [dict(row) for row in read_csv(study / "slides.csv")]
    for row, name in zip(rows[:3], ("one", "two", "three"), strict=True):
        Image.open(study / str(row["path"])).save(study / f"{name}.png", dpi=(50_800, 50_800))
        row |= {"path": f"{name}.png", "mpp": 0.25}
    write_csv(study / "slides.csv", rows)
    said = "the table says 0.25 um/px, the file 0.5; the table is used: correct or clear it"
    for workers in (1, 2):
        run = hardmil("patch", study, "--workers", workers, "--json")
        assert run.code == 0, run.err
        assert f"note: {rows[0]['slide_id']}: {said}\n" in run.out
        notes = json.loads(run.out.splitlines()[-1])["notes"]
        assert notes == {row["slide_id"]: [said] for row in rows[:3]}
    monkeypatch.setattr("hardmil.commands.patch.MAX_NOTES", 2)
    run = hardmil("patch", study)
    assert run.out.count("note: ") == 2
    assert f"and 1 note more: hardmil doctor {study}" in run.out


def test_annotations_of_the_table_restrict_the_patches(hardmil: Hardmil, study: Path):
    rows = read_csv(study / "slides.csv")
    for row in rows:
        row["annotations"] = f"{row['slide_id']}.geojson"
        write_regions(study / row["annotations"], [Region(square(24, 24, 72), "roi")])
    write_csv(study / "slides.csv", [dict(row) for row in rows])
    run = hardmil("patch", study, "--set", "patches.tissue.keep=[roi]", "--set", "patches.min_tissue=0.9")
    assert run.code == 0, run.err
    expected = [[x, y] for y in (24, 48, 72) for x in (24, 48, 72)]
    assert _coords(study)["000 a_patches.h5"] == expected
    # Another outline: the slide is cut again, the others are not.
    write_regions(study / "000 a.geojson", [Region(square(24, 24, 24), "roi")])
    again = hardmil("patch", study, "--set", "patches.tissue.keep=[roi]", "--set", "patches.min_tissue=0.9")
    assert again.code == 0
    assert _coords(study)["000 a_patches.h5"] == [[24, 24]]
    (study / "001 a.geojson").write_text("no json")
    run = hardmil("patch", study, "--set", "patches.tissue.keep=[roi]")
    assert run.code == 1
    assert "001 a.geojson: is not GeoJSON" in (study / "patches" / "failures.csv").read_text()

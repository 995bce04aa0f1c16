import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.studies import Hardmil, coords_of, read_csv, slide_path, write_csv

from hardmil.files.geojson import Region, read_regions, square, write_regions


def test_mask_outline_and_picture_are_written_next_to_the_coordinates(hardmil: Hardmil, study: Path):
    run = hardmil("patch", study)
    sheet = study / "patches" / "contact_sheet.html"
    assert f"contact sheet: {sheet}" in run.text
    assert re.search(r"on 8 slides in \S.*patches \([\d.]+/(s|min)\)", run.text)
    with Image.open(study / "patches" / "tissue" / "003 a.png") as mask:
        assert mask.size == (210, 150)
        assert mask.text == {"level0_px_per_px": "1.0", "level0_px_per_px_y": "1.0", "slide": "003 a.tif"}
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


def test_slide_without_tissue_is_named_and_has_an_empty_bag(hardmil: Hardmil, study: Path):
    Image.new("RGB", (210, 150), (245, 245, 245)).save(slide_path(study, "002 a"))
    run = hardmil("patch", study)
    assert run.code == 0, run.err
    assert "without a patch of 25% tissue: 002 a" in run.text
    assert coords_of(study)["002 a_patches.h5"] == []
    page = (study / "patches" / "contact_sheet.html").read_text()
    assert "1 with a problem" in page
    assert page.index("002 a") < page.index("000 a")


def test_slide_with_few_patches_is_named(hardmil: Hardmil, study: Path):
    rgb = np.full((150, 210, 3), 245, np.uint8)
    rgb[24:48, 48:72] = (225, 150, 190)
    Image.fromarray(rgb).save(slide_path(study, "002 a"))
    for command in ("patch", "doctor"):
        run = hardmil(command, study)
        assert run.code == 0, run.err
        assert re.search(r"^note:? +002 a: patches with 25% tissue: only 1; ", run.text, flags=re.M)
        assert run.text.count("tissue: only") == 1


def test_notes_about_slides_are_printed_by_every_run(
    hardmil: Hardmil, study: Path, monkeypatch: pytest.MonkeyPatch
):
    rows: list[dict[str, object]] = [dict(row) for row in read_csv(study / "slides.csv")]
    for row, name in zip(rows[:3], ("one", "two", "three"), strict=True):
        Image.open(study / str(row["path"])).save(study / f"{name}.png", dpi=(50_800, 50_800))
        row |= {"path": f"{name}.png", "mpp": 0.25}
    write_csv(study / "slides.csv", rows)
    for workers in (1, 2):
        run = hardmil("patch", study, "--workers", workers, "--json")
        assert run.code == 0, run.err
        notes = json.loads(run.out)["notes"]
        assert list(notes) == [row["slide_id"] for row in rows[:3]]
        for slide_id, (note,) in notes.items():
            assert re.search(r"table says 0\.25 um/px, the file 0\.5", note)
            assert f"note: {slide_id}: {note}\n" in run.text
    monkeypatch.setattr("hardmil.commands.patch.MAX_NOTES", 2)
    run = hardmil("patch", study)
    assert run.text.count("note: ") == 2
    assert re.search(f"1 note more.*hardmil doctor {study}", run.text)


def test_annotations_of_the_table_restrict_the_patches(hardmil: Hardmil, study: Path):
    rows = read_csv(study / "slides.csv")
    for row in rows:
        row["annotations"] = f"{row['slide_id']}.geojson"
        write_regions(study / row["annotations"], [Region(square(24, 24, 72), "roi")])
    write_csv(study / "slides.csv", [dict(row) for row in rows])
    run = hardmil("patch", study, "--set", "patches.tissue.keep=[roi]", "--set", "patches.min_tissue=0.9")
    assert run.code == 0, run.err
    expected = [[x, y] for y in (24, 48, 72) for x in (24, 48, 72)]
    assert coords_of(study)["000 a_patches.h5"] == expected
    for command in ("patch", "encode"):
        wrong = hardmil(command, study, "--set", "patches.tissue.drop=[Fold]")
        assert wrong.code == 1
        assert (
            'patches.tissue.drop names "Fold", which no annotation of the study has; found roi' in wrong.err
        )
    # Another outline: the slide is cut again, the others are not.
    write_regions(study / "000 a.geojson", [Region(square(24, 24, 24), "roi")])
    again = hardmil("patch", study, "--set", "patches.tissue.keep=[roi]", "--set", "patches.min_tissue=0.9")
    assert again.code == 0
    assert coords_of(study)["000 a_patches.h5"] == [[24, 24]]
    (study / "001 a.geojson").write_text("no json")
    run = hardmil("patch", study, "--set", "patches.tissue.keep=[roi]")
    assert run.code == 1
    assert "001 a.geojson: " in (study / "patches" / "failures.csv").read_text()

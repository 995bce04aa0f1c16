from pathlib import Path

from tests.support.pyramids import row_of, write_pyramid

from hardmil.config.patches import PatchConfig
from hardmil.preprocessing.fingerprints import SLIDE_ATTRIBUTE, slide_fingerprints


def test_what_changes_pixels_changes_what_a_file_was_made_of(tmp_path: Path):
    row = row_of(write_pyramid(tmp_path / "s.tif"))
    made = [
        slide_fingerprints(row, config=PatchConfig(**settings))
        for settings in ({}, {"icc": True}, {"mpp": 0.5}, {"mpp_from_power": True})
    ]
    assert len({str(one) for one in made}) == 4


def test_a_folder_that_gains_an_instance_is_another_slide(tmp_path: Path):
    (tmp_path / "slide").mkdir()
    (tmp_path / "slide" / "a.dcm").write_bytes(b"1234")
    before = slide_fingerprints(row_of(tmp_path / "slide"), config=PatchConfig())[SLIDE_ATTRIBUTE]
    (tmp_path / "slide" / "b.dcm").write_bytes(b"12")
    after = slide_fingerprints(row_of(tmp_path / "slide"), config=PatchConfig())[SLIDE_ATTRIBUTE]
    assert before.startswith("4 bytes")
    assert after.startswith("6 bytes")

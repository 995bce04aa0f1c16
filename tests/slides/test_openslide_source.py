from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardmil.errors import SlideError
from hardmil.slides.openslide_source import OpenSlideSource
from hardmil.slides.reader import open_slide, open_source

RGB = np.zeros((200, 304, 3), np.uint8)
RGB[:100, :152], RGB[:100, 152:] = (200, 60, 60), (60, 200, 60)
RGB[100:, :152], RGB[100:, 152:] = (60, 60, 200), (200, 200, 60)


def write_ndpi(path: Path) -> Path:
    """Two levels, 20x and 10x, each stored as one JPEG, with the tags of Hamamatsu."""
    with tifffile.TiffWriter(path) as tiff:
        for lens, step in ((20.0, 1), (10.0, 2)):
            tiff.write(
                RGB[::step, ::step],
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                rowsperstrip=200 // step,
                metadata=None,
                resolution=(20_000 / step, 20_000 / step),
                resolutionunit="CENTIMETER",
                extratags=[
                    (65420, 4, 1, 1, True),
                    (65421, 11, 1, lens, True),
                    *((tag, 9, 1, 0, True) for tag in (65422, 65423, 65424)),
                ],
            )
    return path


def test_hamamatsu_slide_is_read_as_written(tmp_path: Path):
    path = write_ndpi(tmp_path / "0012 ä.ndpi")
    with closing(open_source(path)) as source:
        assert isinstance(source, OpenSlideSource)
    with open_slide(path) as slide:
        assert (slide.width_px, slide.height_px, slide.mpp) == (304, 200, pytest.approx(0.5))
        assert slide.scale.power == 20
        assert [level.downsample for level in slide.levels[:2]] == [(1, 1), (2, 2)]
        whole, part = slide.read(0, 0, 304, 200).astype(int), slide.read(140, 90, 30, 20).astype(int)
        coarse = slide.read(100, 80, 50, 60, 1).astype(int)
    assert np.abs(whole - RGB).mean() < 2
    assert np.abs(part - RGB[90:110, 140:170]).mean() < 5
    assert np.abs(coarse - RGB[::2, ::2][40:100, 50:100]).mean() < 5


def pixels_or_error(path: Path) -> np.ndarray | str:
    try:
        with open_slide(path) as slide:
            return slide.read(0, 0, slide.width_px, slide.height_px)
    except SlideError as error:
        return str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_truncated_file_is_read_correctly_or_named(tmp_path: Path, share: float):
    path = tmp_path / "a.ndpi"
    expected = pixels_or_error(path if path.exists() else write_ndpi(path))
    assert isinstance(expected, np.ndarray)
    content = path.read_bytes()
    (tmp_path / "cut.ndpi").write_bytes(content[: int(len(content) * share)])
    found = pixels_or_error(tmp_path / "cut.ndpi")
    if isinstance(found, str):
        assert "cut.ndpi: " in found
    else:
        np.testing.assert_array_equal(found, expected)

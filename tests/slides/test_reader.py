import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.phantom.slide import draw_phantom, write_phantom
from hardmil.slides.level_source import Level
from hardmil.slides.picture_source import PictureSource
from hardmil.slides.reader import open_slide, open_source


@contextmanager
def as_another_user() -> Iterator[None]:
    """Run the block as another user, because root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def write_gradient(path: Path, *, mpp: float = 0.25, **options: object) -> np.ndarray:
    """A lossless tiled TIFF with three levels, 700 x 500 px, in which colours encode the position."""
    y, x = np.mgrid[:500, :700]
    rgb = np.stack([x // 3, y // 2, (x + y) % 256], axis=-1).astype(np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        for index, step in enumerate((1, 2, 4)):
            tiff.write(
                rgb[::step, ::step],
                tile=(64, 64),
                photometric="rgb",
                compression="deflate",
                subfiletype=int(index > 0),
                resolution=(1e4 / mpp / step, 1e4 / mpp / step),
                resolutionunit="CENTIMETER",
                metadata=None,
                **options,
            )
    return rgb


def whole_or_error(path: Path) -> np.ndarray | str:
    """All pixels of level 0, or the error message."""
    try:
        with open_slide(path) as slide:
            return slide.read(0, 0, slide.width_px, slide.height_px)
    except SlideError as error:
        return str(error)


@pytest.fixture(scope="module")
def gradient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("gradient") / "gradient.tif"
    return path, write_gradient(path)


def test_size_levels_and_resolution_of_a_pyramid(gradient: tuple[Path, np.ndarray]):
    with open_slide(str(gradient[0])) as slide:
        assert slide.path == gradient[0]
        assert (slide.width_px, slide.height_px) == (700, 500)
        assert slide.mpp == pytest.approx(0.25)
        assert slide.levels == (
            Level(700, 500, Downsample(1.0, 1.0)),
            Level(350, 250, Downsample(2.0, 2.0)),
            Level(175, 125, Downsample(4.0, 4.0)),
        )


@pytest.mark.parametrize("level", [0, 1, 2])
def test_rectangle_starts_at_level_0_px_and_has_the_size_in_px_of_the_level(gradient, level: int):
    path, rgb = gradient
    step = 2**level
    with open_slide(path) as slide:
        region = slide.read(48, 80, 30, 20, level)
    np.testing.assert_array_equal(region, rgb[80 : 80 + 20 * step : step, 48 : 48 + 30 * step : step])


@given(x=st.integers(-40, 720), y=st.integers(-40, 520), width=st.integers(1, 90), height=st.integers(1, 60))
def test_outside_the_slide_is_white(gradient, x: int, y: int, width: int, height: int):
    path, rgb = gradient
    white = np.full((620, 860, 3), 255, np.uint8)
    white[60:560, 60:760] = rgb
    with open_slide(path) as slide:
        region = slide.read(x, y, width, height)
    expected = np.full((height, width, 3), 255, np.uint8)
    part = white[y + 60 : y + 60 + height, x + 60 : x + 60 + width]
    expected[: part.shape[0], : part.shape[1]] = part
    np.testing.assert_array_equal(region, expected)


def test_thumbnail_is_averaged_by_area(gradient):
    path, rgb = gradient
    with open_slide(path) as slide:
        small, whole = slide.thumbnail(100), slide.thumbnail(10_000)
    assert small.shape == (71, 100, 3)
    expected = cv2.resize(rgb[::4, ::4], (100, 71), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(small, expected)
    np.testing.assert_array_equal(whole, rgb)


def test_thumbnail_read_in_strips_is_the_same(gradient, monkeypatch: pytest.MonkeyPatch):
    path, rgb = gradient
    monkeypatch.setattr("hardmil.slides.slide.STRIP_PX", 9_000)
    with open_slide(path) as slide:
        small, whole = slide.thumbnail(350), slide.thumbnail(700)
    np.testing.assert_array_equal(small, rgb[::2, ::2])
    np.testing.assert_array_equal(whole, rgb)


def test_resolution_of_a_screen_is_ignored(tmp_path: Path):
    write_gradient(tmp_path / "screen.tif", mpp=25_400 / 72)
    with open_slide(tmp_path / "screen.tif") as slide:
        assert slide.mpp is None


def test_phantom_reads_as_drawn(tmp_path: Path):
    phantom = draw_phantom(3, lesion=True, look_alikes=False, width_px=800, height_px=600, mpp=0.4)
    write_phantom(tmp_path / "slide.tif", phantom)
    with open_slide(tmp_path / "slide.tif") as slide:
        assert slide.mpp == pytest.approx(0.4)
        assert slide.levels == (Level(800, 600, Downsample(1.0, 1.0)), Level(400, 300, Downsample(2.0, 2.0)))
        difference = np.abs(slide.read(0, 0, 800, 600).astype(int) - phantom.rgb)
    assert difference.mean() < 5


@pytest.mark.parametrize(("level", "width"), [(-1, 5), (3, 5), (0, 0)])
def test_impossible_rectangle_is_refused(gradient, level: int, width: int):
    with (
        open_slide(gradient[0]) as slide,
        pytest.raises(SlideError, match=r"gradient\.tif: .* was asked for"),
    ):
        slide.read(0, 0, width, 5, level)


def test_thumbnail_of_0_px_is_refused(gradient):
    with open_slide(gradient[0]) as slide, pytest.raises(SlideError, match="thumbnail of 0 px was asked for"):
        slide.thumbnail(0)


def test_closed_slide_is_not_read(gradient):
    with open_slide(gradient[0]) as slide:
        pass
    slide.close()
    with pytest.raises(SlideError, match=r"gradient\.tif: is closed; open it again"):
        slide.read(0, 0, 5, 5)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SlideError, match=r"none\.svs: there is no such file; check the path$"):
        open_slide(tmp_path / "none.svs")


def test_a_path_of_another_computer_is_called_so(tmp_path: Path):
    with pytest.raises(SlideError, match=r"0017\.svs: there is no such file; it is a path of Windows"):
        open_slide(tmp_path / "D:\\scans\\0017.svs")


def test_path_that_is_too_long_is_named():
    with pytest.raises(SlideError, match=r"cannot be read \(File name too long\); check the path"):
        open_slide("x" * 300)


def test_folder_is_named(tmp_path: Path):
    with pytest.raises(SlideError, match=r"is a folder without a DICOM file; expected a slide"):
        open_slide(tmp_path)


def test_mirax_slide_without_its_folder_is_named(tmp_path: Path):
    """The file is a JPEG, and would otherwise be read as a picture."""
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "slide.mrxs", "JPEG")
    with pytest.raises(SlideError, match=r"slide\.mrxs: the folder slide next to it.*is missing.*copy"):
        open_slide(tmp_path / "slide.mrxs")


def test_empty_file_is_named(tmp_path: Path):
    (tmp_path / "empty.svs").touch()
    with pytest.raises(SlideError, match=r"empty\.svs: is empty \(0 bytes\)"):
        open_slide(tmp_path / "empty.svs")


def test_file_without_permission_is_named(gradient):
    path = gradient[0].with_name("locked.tif")
    path.write_bytes(gradient[0].read_bytes())
    path.chmod(0)
    with as_another_user(), pytest.raises(SlideError, match="no permission to read it; ask its owner"):
        open_slide(path)


@pytest.mark.parametrize("name", ["notes.svs", "notes.tif", "notes.png", "notes.mrxs", "notes"])
def test_text_file_is_named_with_its_first_bytes(tmp_path: Path, name: str):
    (tmp_path / name).write_text("Dear colleague, the slide is on the other disk.")
    with pytest.raises(
        SlideError, match=rf"{name}: is not an image .*starts with b'Dear colleag'.*expected a slide"
    ):
        open_slide(tmp_path / name)


@pytest.mark.parametrize("twentieth", range(20))
def test_truncated_slide_is_read_correctly_or_named(phantom_slide: Path, tmp_path: Path, twentieth: int):
    whole = phantom_slide.read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole[: max(5, len(whole) * twentieth // 20)])
    with open_slide(phantom_slide) as slide:
        expected = slide.read(0, 0, slide.width_px, slide.height_px)
    found = whole_or_error(cut)
    if isinstance(found, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    else:
        assert re.search(r"cut\.tif: .*(incomplete|not an image)", found)


def test_tile_damaged_in_the_middle_is_named_when_it_is_read(phantom_slide: Path, tmp_path: Path):
    """OpenSlide opens this file; the damage is found on reading."""
    content = bytearray(phantom_slide.read_bytes())
    with tifffile.TiffFile(phantom_slide) as tiff:
        offset, n_bytes = tiff.pages.first.dataoffsets[5], tiff.pages.first.databytecounts[5]
    content[offset : offset + n_bytes] = b"\xff" * n_bytes
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(content)
    with open_slide(damaged) as slide:
        assert slide.read(0, 0, 50, 50).shape == (50, 50, 3)
        with pytest.raises(SlideError, match=r"damaged\.tif: cannot be read at tile 5 \(.*copy it"):
            slide.read(0, 0, slide.width_px, slide.height_px)


def test_real_aperio_slide(data_dir: Path):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.width_px, slide.height_px) == (2220, 2967)
        assert slide.mpp == pytest.approx(0.499)
        assert slide.read(0, 0, 4, 4)[3, 3].tolist() == [220, 117, 168]


def test_fixtures_of_openslide_are_read(data_dir: Path):
    with open_slide(data_dir / "slides" / "openslide_boxes.tiff") as slide:
        assert [(level.width_px, level.height_px) for level in slide.levels] == [
            (300, 250),
            (150, 125),
            (75, 62),
            (37, 31),
        ]
        assert slide.thumbnail(300).shape == (250, 300, 3)
        assert slide.mpp is None
    with open_slide(data_dir / "slides" / "openslide_small.svs") as slide:
        assert slide.read(0, 0, 16, 16).std() > 0


def test_broken_fixtures_of_openslide_are_named(data_dir: Path):
    with pytest.raises(
        SlideError, match=r"openslide_unopenable\.tiff: uses an unsupported compression \(52479\)"
    ):
        open_slide(data_dir / "slides" / "openslide_unopenable.tiff")
    with (
        open_slide(data_dir / "slides" / "openslide_unreadable.svs") as slide,
        pytest.raises(SlideError, match=r"openslide_unreadable\.svs: cannot be read at tile 0"),
    ):
        slide.read(0, 0, 16, 16)


def test_picture_is_a_slide_with_one_level(data_dir: Path):
    image = data_dir / "CRCHistoPhenotypes_2016_04_28" / "Classification" / "img1" / "img1.bmp"
    assert isinstance(open_source(image), PictureSource)
    with open_slide(image) as slide:
        assert slide.levels == (Level(500, 500, Downsample(1.0, 1.0)),)
        assert slide.mpp is None
        whole = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(slide.read(10, 480, 40, 20), whole[480:500, 10:50])


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.svs")
    with pytest.raises(SlideError, match=r"a\.svs: is a named pipe; expected a slide"):
        open_slide(tmp_path / "a.svs")
    with pytest.raises(SlideError, match=r"cannot be read .*null"):
        open_slide("a\0.svs")


def test_an_edge_longer_than_a_glass_slide_is_refused(tmp_path: Path):
    path = tmp_path / "forged.tif"
    tifffile.imwrite(path, np.zeros((96, 160, 3), np.uint8), tile=(32, 32), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["ImageWidth"].overwrite(8_388_768)
    with pytest.raises(SlideError, match="states an edge of 8,388,768 px; expected at most 600,000"):
        open_slide(path)

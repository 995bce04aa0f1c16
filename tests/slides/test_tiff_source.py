"""Synthetic OME-TIFF, QPTIFF, SVS and plain TIFF: not square, two levels, one colour in each quadrant."""

from contextlib import closing
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ImageCms
from tests.support import needles

from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.slides.grid import PatchGrid
from hardmil.slides.level_source import Level
from hardmil.slides.openslide_source import OpenSlideSource
from hardmil.slides.reader import open_slide, open_source
from hardmil.slides.reading import read_patches
from hardmil.slides.slide import Slide
from hardmil.slides.tiff_source import TiffSource

RGB = np.zeros((200, 300, 3), np.uint8)
RGB[:100, :150], RGB[:100, 150:] = (200, 60, 60), (60, 200, 60)
RGB[100:, :150], RGB[100:, 150:] = (60, 60, 200), (200, 200, 60)
RGB[::20] //= 2
QPTIFF = (
    '<?xml version="1.0" encoding="utf-8"?><PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType>'
    "<Objective>20x</Objective><ScanProfile><PixelSizeMicrons>0.5</PixelSizeMicrons></ScanProfile>"
    "</PerkinElmer-QPI-ImageDescription>"
)
APERIO = "Aperio Image Library v1\r\n300x200 [0,0 300x200] (64x64) JPEG/RGB Q=95|AppMag = 20|MPP = 0.5000"


def write_ome(path: Path, **size: object) -> Path:
    """The second level is a SubIFD, as the format requires."""
    pixels = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **size}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        how = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate"}
        tiff.write(RGB, subifds=1, metadata={"axes": "YXS", **pixels}, **how)
        tiff.write(RGB[::2, ::2], subfiletype=1, **how)
    return path


def write_qptiff(path: Path) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        how = {"photometric": "rgb", "compression": "lzw", "metadata": None, "software": "PerkinElmer-QPI"}
        tiff.write(RGB, tile=(64, 64), description=QPTIFF.format(kind="FullResolution"), **how)
        tiff.write(RGB[::8, ::8], description=QPTIFF.format(kind="Thumbnail"), **how)
        tiff.write(RGB[::2, ::2], tile=(64, 64), description=QPTIFF.format(kind="ReducedResolution"), **how)
    return path


def write_aperio(path: Path, *, compression: str = "deflate") -> Path:
    with tifffile.TiffWriter(path) as tiff:
        how = {"tile": (64, 64), "photometric": "rgb", "compression": compression, "metadata": None}
        tiff.write(RGB, description=APERIO, **how)
        tiff.write(RGB[::4, ::4], photometric="rgb", rowsperstrip=16, metadata=None, description=APERIO)
        tiff.write(RGB[::2, ::2], description=APERIO, **how)
    return path


def write_stripped(path: Path, **options: object) -> Path:
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    how = {"photometric": "rgb", "rowsperstrip": 16, "metadata": None, **resolution, **options}
    tifffile.imwrite(path, RGB, **how)
    return path


def write_with_png(path: Path) -> Path:
    """A TIFF whose tiles OpenSlide refuses."""
    with tifffile.TiffWriter(path) as tiff:
        for level in (0, 1):
            tiff.write(
                RGB[:: level + 1, :: level + 1],
                tile=(64, 64),
                photometric="rgb",
                compression="png",
                subfiletype=level,
                metadata=None,
                resolution=(20_000 / (level + 1),) * 2,
                resolutionunit="CENTIMETER",
            )
    return path


def check_pixels(slide: Slide, *, n_levels: int) -> None:
    whole = [Level(300, 200, Downsample(1.0, 1.0)), Level(150, 100, Downsample(2.0, 2.0))]
    assert slide.levels == tuple(whole[:n_levels])
    assert slide.mpp == pytest.approx(0.5)
    np.testing.assert_array_equal(slide.read(0, 0, 300, 200), RGB)
    np.testing.assert_array_equal(slide.read(131, 87, 40, 30), RGB[87:117, 131:171])
    if n_levels == 2:
        np.testing.assert_array_equal(slide.read(130, 80, 40, 30, 1), RGB[::2, ::2][40:70, 65:105])


@pytest.mark.parametrize(
    ("name", "write", "kind", "n_levels"),
    [
        ("a slide.ome.tif", write_ome, TiffSource, 2),
        ("00012.qptiff", write_qptiff, TiffSource, 2),
        ("größe.svs", write_aperio, OpenSlideSource, 2),
        ("strips.tif", write_stripped, TiffSource, 1),
        ("png.tif", write_with_png, TiffSource, 2),
    ],
)
def test_pixels_levels_and_resolution_are_those_written(tmp_path: Path, name, write, kind, n_levels):
    path = write(tmp_path / name)
    with closing(open_source(path)) as source:
        assert isinstance(source, kind)
    with open_slide(path) as slide:
        check_pixels(slide, n_levels=n_levels)


@pytest.mark.parametrize(
    ("name", "empty", "tolerance"),
    [("needle.ome.tif", None, 0), ("needle.tif", None, 0), ("needle.tif", 1, 25)],
    ids=["tifffile", "tiles of openslide", "openslide"],
)
def test_each_axis_has_its_own_factor(tmp_path: Path, name: str, empty: int | None, tolerance: int):
    """One factor for both would read 8 or 16 px too high at the end of the needle, where noise is unlike.

    OpenSlide itself interpolates by less than half a level-0 px.
    """
    with open_slide(needles.write_needle(tmp_path / name, empty=empty)) as slide:
        assert slide.levels[1].downsample == (61 / 30, 2.0)
        found = slide.read(0, 1960, 30, 20, 1).astype(int)
        grid = PatchGrid(np.array([[0, 64], [0, 1936]]), 17, 35, np.ones(2))
        patches = read_patches(slide, grid)
    assert np.abs(found - needles.COARSE[980:]).mean() <= tolerance
    assert np.abs(patches[1].astype(int) - needles.COARSE[968:985, :17]).mean() <= tolerance


@pytest.mark.parametrize("compression", ["jpeg", "deflate", None])
def test_tiles_left_out_of_an_ome_tiff_are_background(tmp_path: Path, compression: str | None):
    """Their byte count is 0, as with `SPARSE_OK` of GDAL; a file without any tile is incomplete."""
    rgb = np.full((128, 192, 3), 120, np.uint8)
    tiles = [rgb[:64, :64]] * 6
    tiles[1] = tiles[5] = None
    how = {"shape": rgb.shape, "dtype": np.uint8, "tile": (64, 64), "photometric": "rgb", "ome": True}
    path = tmp_path / "sparse.ome.tif"
    tifffile.imwrite(path, iter(tiles), compression=compression, metadata={"axes": "YXS"}, **how)
    with open_slide(path) as slide:
        found = slide.read(0, 0, 192, 128)
    expected = rgb.copy()
    expected[:64, 64:128] = expected[64:, 128:] = 255
    assert np.abs(found.astype(int) - expected).max() <= 2
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["TileByteCounts"].overwrite([0] * 6)
    with pytest.raises(SlideError, match=r"sparse\.ome\.tif: is incomplete"):
        open_slide(path)


@pytest.mark.parametrize("name", ["tiles.tif", "tiles.svs", "strips.tif"])
def test_twelve_bits_a_channel_are_refused(tmp_path: Path, name: str):
    """Their upper 8 of 16 bits are nearly black."""
    layout = {"rowsperstrip": 16} if name == "strips.tif" else {"tile": (64, 64)}
    description = APERIO if name.endswith(".svs") else None
    tifffile.imwrite(
        tmp_path / name,
        RGB.astype(np.uint16) * 16,
        photometric="rgb",
        metadata=None,
        description=description,
        **layout,
    )
    with pytest.raises(SlideError, match=rf"{name}: .*16 bits .*expected 8"):
        open_slide(tmp_path / name)


def test_separate_planes_are_read_as_rgb(tmp_path: Path):
    path = tmp_path / "planes.tif"
    how = {"planarconfig": "separate", "rowsperstrip": 16, "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, np.moveaxis(RGB, 2, 0), compression="lzw", **how)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 300, 200), RGB)


@pytest.mark.parametrize(("photometric", "inverted"), [("minisblack", False), ("miniswhite", True)])
def test_grey_is_read_as_rgb(tmp_path: Path, photometric: str, inverted: bool):
    tifffile.imwrite(
        tmp_path / "grey.tif", RGB[..., 0], photometric=photometric, rowsperstrip=16, metadata=None
    )
    with open_slide(tmp_path / "grey.tif") as slide:
        found = slide.read(0, 0, 300, 200)
    expected = 255 - RGB[..., 0] if inverted else RGB[..., 0]
    np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("size", "unit", "mpp"), [(500.0, "nm", 0.5), (0.0005, "mm", 0.5), (0.5, "µm", 0.5), (0.5, "pixel", None)]
)
def test_ome_sizes_have_units(tmp_path: Path, size: float, unit: str, mpp: float | None):
    sizes = {"PhysicalSizeX": size, "PhysicalSizeY": size}
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    with open_slide(write_ome(tmp_path / "slide.ome.tif", **sizes, **units)) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp))


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">'
    '<Objective ID="Objective:0" NominalMagnification="1.25"/>'
    '<Objective ID="Objective:1" NominalMagnification="20"/></Instrument>{images}</OME>'
)
OME_IMAGE = (
    '<Image ID="Image:{i}" Name="{name}"><ObjectiveSettings ID="Objective:{i}"/><Pixels ID="Pixels:{i}" '
    'DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeC="3" SizeZ="1" SizeT="1" '
    'PhysicalSizeX="{mpp}" PhysicalSizeY="{mpp}"><Channel ID="Channel:{i}:0" SamplesPerPixel="3"/>'
    '<TiffData IFD="{i}" PlaneCount="1"/></Pixels></Image>'
)


@pytest.mark.parametrize("name", ["macro.ome.tif", "macro.tif"])
def test_largest_image_is_read_where_the_first_is_a_macro(tmp_path: Path, name: str):
    path, macro = tmp_path / name, np.full((60, 90, 3), 240, np.uint8)
    sizes = ((0, "macro", 90, 60, 8.0), (1, "slide", 300, 200, 0.5))
    images = "".join(
        OME_IMAGE.format(i=i, name=image, width=width, height=height, mpp=mpp)
        for i, image, width, height, mpp in sizes
    )
    description = OME.format(images=images) if ".ome." in name else None
    with tifffile.TiffWriter(path) as tiff:
        how = {"photometric": "rgb", "rowsperstrip": 16, "metadata": None, "resolutionunit": "CENTIMETER"}
        tiff.write(macro, description=description, resolution=(1250, 1250), **how)
        tiff.write(RGB, resolution=(20_000, 20_000), **how)
    with open_slide(path) as slide:
        check_pixels(slide, n_levels=1)
        assert slide.scale.power == (20 if description else None)
        assert slide.notes == (
            "it holds several images; the largest is used, of 300 x 200 px, not the first, of 90 x 60 px",
        )


def test_power_of_the_objective_is_read(tmp_path: Path):
    for path in (write_qptiff(tmp_path / "a.qptiff"), write_aperio(tmp_path / "a.svs")):
        with open_slide(path) as slide:
            assert slide.scale.power == 20


@pytest.mark.parametrize(
    ("pixels", "axes", "found"),
    [
        (np.zeros((4, 64, 96), np.uint16), "CYX", r"4 images \(4 C x 64 Y x 96 X\).*fluorescence"),
        (np.zeros((5, 64, 96, 3), np.uint8), "ZYXS", r"5 images \(5 Z x 64 Y x 96 X x 3 S\)"),
        (np.zeros((64, 96, 3), np.uint16), "YXS", r"holds uint16 pixels \(16 bits a channel\)"),
    ],
)
def test_images_other_than_brightfield_rgb_are_refused(
    tmp_path: Path, pixels: np.ndarray, axes: str, found: str
):
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, metadata={"axes": axes}, photometric=photometric, ome=True
    )
    with pytest.raises(SlideError, match=rf"a\.ome\.tif: .*{found}.*export"):
        open_slide(tmp_path / "a.ome.tif")


def test_colour_profile_is_found(tmp_path: Path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with open_slide(write_stripped(tmp_path / "icc.tif", iccprofile=profile)) as slide:
        assert slide.icc_profile == profile


def test_closed_slide_is_not_read(tmp_path: Path):
    slide = open_slide(write_qptiff(tmp_path / "a.qptiff"))
    slide.close()
    slide.close()
    with pytest.raises(SlideError, match="is closed; open it again"):
        slide.read(0, 0, 5, 5)


def whole_or_error(path: Path) -> np.ndarray | str:
    try:
        with open_slide(path) as slide:
            return slide.read(0, 0, slide.width_px, slide.height_px)
    except SlideError as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.ome.tif", write_ome),
        ("a.qptiff", write_qptiff),
        ("a.svs", write_aperio),
        ("a.tif", write_stripped),
        ("png.tif", write_with_png),
    ],
)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(share=st.floats(0, 1))
def test_truncated_file_is_read_correctly_or_named(tmp_path: Path, name: str, write, share: float):
    """Missing pixels are never black, and no other exception is raised."""
    path, cut = tmp_path / name, tmp_path / f"cut_{name}"
    content = (path if path.exists() else write(path)).read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    found = whole_or_error(cut)
    if isinstance(found, str):
        assert str(cut) in found
    elif found.shape == RGB.shape:
        np.testing.assert_array_equal(found, RGB)
    else:
        np.testing.assert_array_equal(found, RGB[::2, ::2])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_changed_bytes_raise_only_slide_errors(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.ome.tif"
    content = bytearray((path if path.exists() else write_ome(path)).read_bytes())
    for place in rng.integers(0, len(content), 8).tolist():
        content[place] = int(rng.integers(256))
    (tmp_path / "bad.ome.tif").write_bytes(content)
    found = whole_or_error(tmp_path / "bad.ome.tif")
    assert isinstance(found, np.ndarray) or "bad.ome.tif" in found


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw"])
def test_tiles_decoded_here_equal_those_of_openslide(tmp_path: Path, compression: str):
    """JPEG of RGB with shared tables and without an APP14 marker, as Aperio writes it."""
    path = write_aperio(tmp_path / "a.svs", compression=compression)
    with closing(OpenSlideSource(path)) as source:
        assert set(source.tiled_pages) == {0, 1}
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        for level, (width, height) in enumerate(other.level_dimensions):
            expected = np.asarray(other.read_region((0, 0), level, (width, height)))[..., :3]
            np.testing.assert_array_equal(slide.read(0, 0, width, height, level), expected)


def test_real_aperio_slide_equals_openslide(data_dir: Path):
    path = data_dir / "slides" / "CMU-1-Small-Region.svs"
    with closing(OpenSlideSource(path)) as source:
        assert set(source.tiled_pages) == {0}
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        expected = np.asarray(other.read_region((1900, 2700), 0, (320, 267)))[..., :3]
        np.testing.assert_array_equal(slide.read(1900, 2700, 320, 267), expected)


def test_tile_that_aperio_left_out_is_white(tmp_path: Path):
    """Its byte count is 0; OpenSlide also returns white."""
    path = write_aperio(tmp_path / "a.svs")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        counts = list(tiff.pages.first.databytecounts)
        tiff.pages.first.tags["TileByteCounts"].overwrite([*counts[:3], 0, *counts[4:]])
    with open_slide(path) as slide:
        found = slide.read(0, 0, 300, 200)
    expected = RGB.copy()
    expected[:64, 192:256] = 255
    np.testing.assert_array_equal(found, expected)


def test_the_largest_of_a_tiled_tiff_is_read_whatever_the_order_of_its_images(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "odd.tif") as tiff:
        for step in (4, 1, 2):
            tiff.write(RGB[::step, ::step], tile=(64, 64), photometric="rgb", subfiletype=int(step > 1))
    with open_slide(tmp_path / "odd.tif") as slide:
        assert [level.width_px for level in slide.levels] == [300, 150, 75]
        np.testing.assert_array_equal(slide.read(0, 0, 300, 200), RGB)
        assert "the largest is used, of 300 x 200 px" in slide.notes[0]


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize("pixels", [np.moveaxis(RGB, 2, 0), np.stack([RGB, 255 - RGB])])
def test_several_images_of_one_size_are_refused(tmp_path: Path, tile, pixels: np.ndarray):
    photometric = "rgb" if pixels.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "stack.tif", pixels, tile=tile, photometric=photometric)
    with pytest.raises(
        SlideError, match=rf"stack\.tif: holds {len(pixels)} images of 300 x 200 px; expected one"
    ):
        open_slide(tmp_path / "stack.tif")


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"), [("um", 2, 0.5), ("micron", 4, 0.25), ("pixel", 2, None)]
)
def test_imagej_states_the_unit_of_the_resolution(
    tmp_path: Path, unit: str, per_unit: int, mpp: float | None
):
    tifffile.imwrite(
        tmp_path / "fiji.tif", RGB, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit}
    )
    with open_slide(tmp_path / "fiji.tif") as slide:
        assert slide.mpp == mpp

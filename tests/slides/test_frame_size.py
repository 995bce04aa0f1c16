import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from hardmil.errors import SlideError
from hardmil.slides.frame_size import Frame, frame_of, too_large_frame
from hardmil.slides.reader import open_slide

RGB = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def jpeg(**how: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, "JPEG", **how)
    return content.getvalue()


@pytest.mark.parametrize(
    ("data", "kind", "n_channels"),
    [
        (jpeg(), "JPEG", 3),
        (jpeg(progressive=True), "progressive", 3),
        (imagecodecs.jpeg8_encode(RGB[:, :, 0].copy()), "JPEG", 1),
        (imagecodecs.jpeg2k_encode(RGB, codecformat="j2k"), "JPEG2000", 3),
        (imagecodecs.jpeg2k_encode(RGB, codecformat="jp2"), "JPEG2000", 3),
        (imagecodecs.png_encode(RGB), "PNG", 4),
    ],
    ids=["jpeg", "progressive", "grey", "codestream", "jp2", "png"],
)
def test_frame_of_what_encoders_write(data: bytes, kind: str, n_channels: int):
    assert frame_of(data) == Frame(53, 37, n_channels, kind)
    assert too_large_frame(data) is None


def test_bytes_between_segments_and_fill_bytes_are_skipped():
    data = jpeg()
    assert frame_of(data[:2] + b"\xff\xff\x01\x00junk\xff\xff" + data[2:]) == frame_of(data)


@pytest.mark.parametrize("length", range(0, 200, 7))
def test_cut_data_state_no_frame_or_the_right_one(length: int):
    for whole in (jpeg(), imagecodecs.jpeg2k_encode(RGB), imagecodecs.png_encode(RGB)):
        assert frame_of(whole[:length]) in (None, frame_of(whole))


def test_other_data_state_no_frame():
    for data in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xda\x00\x08", b"RIFF", bytes(100)):
        assert frame_of(data) is None
        assert too_large_frame(data) is None


def test_frame_that_states_too_many_pixels_or_channels():
    found = too_large_frame(of_size(jpeg(), width=65_407, height=65_535))
    assert found is not None
    assert "states 65407 x 65535 px and 3 channels; expected at most 201,326,592 px" in found
    stream = imagecodecs.jpeg2k_encode(RGB, codecformat="j2k")
    many = stream[:40] + struct.pack(">H", 16_000) + stream[42:]
    assert "16000 channels" in str(too_large_frame(many))


def test_tile_whose_jpeg_states_another_size_is_refused_before_it_is_decoded(tmp_path: Path):
    path = tmp_path / "forged.tif"
    tifffile.imwrite(
        path, np.zeros((64, 64, 3), np.uint8), tile=(32, 32), photometric="rgb", compression="jpeg"
    )
    path.write_bytes(of_size(path.read_bytes(), width=65_407, height=65_535))
    with (
        open_slide(path) as slide,
        pytest.raises(
            SlideError, match=r"forged\.tif: cannot be read at tile 0 \(its own header states 65407 x"
        ),
    ):
        slide.read(0, 0, 64, 64)


def of_size(data: bytes, *, width: int, height: int) -> bytes:
    """The same data, in which each JPEG states another size."""
    at = -1
    while (at := data.find(b"\xff\xc0", at + 1)) >= 0:
        data = data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    return data

"""The size that a compressed frame states, read before it is decoded: decoders allocate what it says.

A tile of 1 kB can state 65,535 x 65,535 px, whatever the file says about its tiles.
"""

import struct
from dataclasses import dataclass

from hardmil.slides.pictures import MAX_CHANNELS, most_px

_JPEG, _JPEG_2000, _PNG = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x89PNG\r\n\x1a\n"
_JP2_BOX = b"\x00\x00\x00\x0cjP  "
_START_OF_SCAN = 0xDA
# Markers of JPEG: those of frames, of progressive ones, and those that stand alone, without a length.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_ALONE = {0x00, 0x01, *range(0xD0, 0xD9), 0xFF}


@dataclass(frozen=True)
class Frame:
    """What the header of a frame states; `kind` is a format of Pillow, or `progressive` for such a JPEG."""

    width_px: int
    height_px: int
    n_channels: int
    kind: str


def too_large_frame(data: bytes) -> str | None:
    """Why a frame is not decoded, for a message; None if it may be, or states no size."""
    frame = frame_of(data)
    if frame is None:
        return None
    most = most_px(frame.kind)
    if frame.width_px * frame.height_px <= most and frame.n_channels <= MAX_CHANNELS:
        return None
    return (
        f"its own header states {frame.width_px} x {frame.height_px} px and {frame.n_channels} channels; "
        f"expected at most {most:,} px and {MAX_CHANNELS} channels"
    )


def frame_of(data: bytes) -> Frame | None:
    """The frame of a JPEG, JPEG 2000 or PNG; None if it states no size, or is compressed otherwise.

    Sources: ITU-T T.81, annex B (JPEG); ITU-T T.800, annex A (JPEG 2000); W3C PNG, section 11.
    """
    try:
        if data.startswith(_JPEG):
            return _of_jpeg(data)
        if data.startswith(_PNG):
            return Frame(*struct.unpack_from(">II", data, 16), 4, "PNG")
        if data.startswith((_JPEG_2000, _JP2_BOX)):
            return _of_jpeg_2000(data, at=data.index(_JPEG_2000))
    except (struct.error, ValueError):
        # The data ends first: a decoder finds no frame either.
        return None
    return None


def _of_jpeg(data: bytes) -> Frame | None:
    at = len(_JPEG)
    while True:
        # Decoders skip what stands between two segments, and any number of bytes 0xff before a marker.
        at = data.index(b"\xff", at) + 1
        marker = data[at] if at < len(data) else _START_OF_SCAN
        if marker == _START_OF_SCAN:
            return None
        if marker in _FRAMES:
            height, width, n_channels = struct.unpack_from(">HHB", data, at + 4)
            return Frame(width, height, n_channels, "progressive" if marker in _PROGRESSIVE else "JPEG")
        if marker not in _ALONE:
            at += 1 + struct.unpack_from(">H", data, at + 1)[0]


def _of_jpeg_2000(data: bytes, *, at: int) -> Frame:
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    (n_channels,) = struct.unpack_from(">H", data, at + 40)
    return Frame(max(right - left, 0), max(bottom - top, 0), n_channels, "JPEG2000")

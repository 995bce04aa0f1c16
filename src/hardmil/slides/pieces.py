"""The connected pieces of a mask."""

import numpy as np
from jaxtyping import Bool


def large_pieces(
    is_there: Bool[np.ndarray, "row column"], *, min_px: float, border: bool = False
) -> Bool[np.ndarray, "row column"]:
    """The connected pieces of more than `min_px` pixels; with `border` also those that reach the edge.

    Pieces touch by an edge of a pixel, or also by a corner where `border` is off: tissue that holds together
    by a corner parts the glass on both sides of it.
    """
    import cv2

    _, piece, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(is_there).view(np.uint8), connectivity=4 if border else 8
    )
    is_kept = stats[:, cv2.CC_STAT_AREA] > min_px
    if border:
        left, top, width, height = stats[:, :4].T
        rows, columns = is_there.shape
        is_kept |= (left == 0) | (top == 0) | (left + width == columns) | (top + height == rows)
    is_kept[0] = False
    # Row by row: as indices, the numbers of all pieces would take twice their own memory.
    return np.stack([is_kept[row] for row in np.asarray(piece, np.int32)])

"""The connected pieces of a mask."""

import numpy as np
from jaxtyping import Bool


def large_pieces(
    mask: Bool[np.ndarray, "row column"], *, min_px: float, border: bool = False
) -> Bool[np.ndarray, "row column"]:
    """The connected pieces of more than `min_px` pixels; with `border`, also those at the image border.

    Without `border`, pixels that touch at a corner are connected; with it, only those that share an edge. So
    where two areas of tissue touch at a corner, the glass on both sides is separate.
    """
    import cv2

    _, piece, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=4 if border else 8
    )
    is_kept = stats[:, cv2.CC_STAT_AREA] > min_px
    if border:
        left, top, width, height = stats[:, :4].T
        rows, columns = mask.shape
        is_kept |= (left == 0) | (top == 0) | (left + width == columns) | (top + height == rows)
    is_kept[0] = False
    # Row by row, because indexing with the whole array would need twice its memory.
    return np.stack([is_kept[row] for row in np.asarray(piece, np.int32)])

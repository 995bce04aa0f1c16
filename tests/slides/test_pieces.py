import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardmil.slides.pieces import large_pieces

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(masks, st.floats(0, 6), st.booleans())
def test_large_pieces_equal_a_plain_flood_fill(is_there: np.ndarray, min_px: float, border: bool):
    expected = np.zeros_like(is_there)
    left = {(int(y), int(x)) for y, x in np.argwhere(is_there)}
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            near = [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1) if not (border and j and i)]
            edge += [one for one in near if one in left]
            left -= set(near)
        ends = ({0, is_there.shape[0] - 1}, {0, is_there.shape[1] - 1})
        reaches = any(y in ends[0] or x in ends[1] for y, x in piece)
        if len(piece) > min_px or (border and reaches):
            expected[tuple(zip(*piece, strict=True))] = True
    np.testing.assert_array_equal(large_pieces(is_there, min_px=min_px, border=border), expected)

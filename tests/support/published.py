"""Published sets: a synthetic one in the layout of the colon set, and the labels of one."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from hardmil.paper.colon import NUCLEI
from hardmil.paper.images import PublishedSet


def labels_of(found: PublishedSet) -> tuple[int, int]:
    """The number of positive and of negative bags."""
    positives = sum(bag.label for bag in found.bags)
    return positives, len(found.bags) - positives


def write_synthetic_colon(root: Path, *, n: int = 2, n_positive: int = 1) -> Path:
    """The layout of the colon set, with n images of noise and an epithelial nucleus in the first of them."""
    rng = np.random.default_rng(0)
    for i in range(1, n + 1):
        folder = root / "Classification" / f"img{i}"
        folder.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(folder / f"img{i}.bmp")
        for kind in NUCLEI:
            centres = (
                [[30.0, 20.0]] if kind == "fibroblast" or (i <= n_positive and kind == "epithelial") else []
            )
            savemat(folder / f"img{i}_{kind}.mat", {"detection": np.array(centres).reshape(-1, 2)})
    return root

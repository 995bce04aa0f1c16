"""Random flips and 90-degree rotations of each patch, for whole bags at once."""

import torch
from jaxtyping import Int, Integer
from torch import Tensor

N_SYMMETRIES = 8


def draw_symmetries(n: int, *, generator: torch.Generator) -> Int[Tensor, " patch"]:
    """A random flip and rotation for each of n patches; all eight symmetries are equally likely.

    Source: Li et al. 2019, Section 3 ("random flips and rotations"). Departure: rotations by 90 degrees only,
    which need no interpolation and leave no corners to fill.
    """
    return torch.randint(N_SYMMETRIES, (n,), generator=generator)


def apply_symmetries(
    patches: Integer[Tensor, "patch size size channel"], *, symmetry: Int[Tensor, " patch"]
) -> Integer[Tensor, "patch size size channel"]:
    """Patch i rotated by `symmetry[i] % 4` times 90 degrees, then mirrored if `symmetry[i] >= 4`.

    Patches with the same symmetry are transformed together: eight steps for a bag of any size.
    """
    turned = torch.empty_like(patches)
    for code in range(N_SYMMETRIES):
        chosen = (symmetry == code).nonzero().squeeze(1)
        rotated = torch.rot90(patches[chosen], code % 4, dims=(1, 2))
        turned[chosen] = rotated.flip(2) if code >= 4 else rotated
    return turned

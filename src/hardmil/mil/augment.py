"""Random flips and 90-degree rotations of each patch, for whole bags at once."""

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

N_SYMMETRIES = 8


def random_symmetries(
    patches: UInt8[Tensor, "patch size size channel"], *, generator: torch.Generator
) -> UInt8[Tensor, "patch size size channel"]:
    """The same patches in the same order, each randomly flipped and rotated.

    The eight symmetries of the square are equally likely. Patches with the same symmetry are transformed
    together: eight steps for a bag of any size.

    Source: Li et al. 2019, Section 3 ("random flips and rotations"). Departure: rotations by 90 degrees only,
    which need no interpolation and leave no corners to fill.
    """
    drawn = torch.randint(N_SYMMETRIES, (len(patches),), generator=generator).to(patches.device)
    return apply_symmetries(patches, symmetry=drawn)


def apply_symmetries(
    patches: UInt8[Tensor, "patch size size channel"], *, symmetry: Int[Tensor, " patch"]
) -> UInt8[Tensor, "patch size size channel"]:
    """Patch i rotated by `symmetry[i] % 4` times 90 degrees, then mirrored if `symmetry[i] >= 4`."""
    turned = torch.empty_like(patches)
    for code in range(N_SYMMETRIES):
        chosen = (symmetry == code).nonzero().squeeze(1)
        rotated = torch.rot90(patches[chosen], code % 4, dims=(1, 2))
        turned[chosen] = rotated.flip(2) if code >= 4 else rotated
    return turned

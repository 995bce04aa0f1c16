"""Random flips and quarter turns, each patch its own, whole bags at a time."""

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

N_SYMMETRIES = 8


def random_symmetries(
    patches: UInt8[Tensor, "patch size size channel"], *, generator: torch.Generator
) -> UInt8[Tensor, "patch size size channel"]:
    """The same patches, in the same order, each flipped and turned by chance.

    Each of the eight symmetries of the square is as likely. Patches of one symmetry are turned together:
    eight steps a bag, however many patches.

    Source: Li et al. 2019, Section 3 ("random flips and rotations"). Departure: quarter turns only, which
    need no interpolation and no corner filling.
    """
    drawn = torch.randint(N_SYMMETRIES, (len(patches),), generator=generator).to(patches.device)
    return apply_symmetries(patches, symmetry=drawn)


def apply_symmetries(
    patches: UInt8[Tensor, "patch size size channel"], *, symmetry: Int[Tensor, " patch"]
) -> UInt8[Tensor, "patch size size channel"]:
    """Patch i turned by `symmetry[i] % 4` quarter turns, then mirrored if `symmetry[i] >= 4`."""
    turned = torch.empty_like(patches)
    for code in range(N_SYMMETRIES):
        chosen = (symmetry == code).nonzero().squeeze(1)
        rotated = torch.rot90(patches[chosen], code % 4, dims=(1, 2))
        turned[chosen] = rotated.flip(2) if code >= 4 else rotated
    return turned

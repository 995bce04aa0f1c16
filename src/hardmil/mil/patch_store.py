"""The patches of many bags in the memory of a device, each stored once."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from hardmil.bags.bag import Bag
from hardmil.device import Device
from hardmil.mil.augment import N_SYMMETRIES, apply_symmetries


class PatchStore:
    """Patches as uint8 on a device, by bag.

    Bags of the trainings stay for good. Bags that mining draws for one step share a spare area, which the
    next step overwrites.
    """

    def __init__(self, bags: Iterable[Bag], *, device: Device) -> None:
        kept = {id(bag.instances): bag.instances for bag in bags}
        firsts = np.cumsum([0, *(len(patches) for patches in kept.values())])
        # The arrays are kept, so that no other array gets the same id.
        self._kept = list(kept.values())
        self._first = dict(zip(kept, firsts.tolist(), strict=False))
        self._n_kept = int(firsts[-1])
        self._device = device
        self._patches = torch.from_numpy(np.concatenate(self._kept)).to(device.name)
        size = self._patches.shape[1]
        places = torch.arange(size * size).view(1, size, size, 1).expand(N_SYMMETRIES, -1, -1, -1)
        turned = apply_symmetries(places, symmetry=torch.arange(N_SYMMETRIES))
        self._pixel_order = turned.reshape(N_SYMMETRIES, size * size).to(device.name)

    def place(self, bags: Sequence[Bag | None]) -> list[int]:
        """The row of the first patch of each bag; bags that are not stored go into the spare area."""
        firsts: list[int] = []
        n_used = self._n_kept
        for bag in bags:
            first = 0 if bag is None else self._first.get(id(bag.instances), -1)
            if bag is not None and first < 0:
                first, n_used = n_used, n_used + len(bag)
                self._make_room(n_used)
                patches = torch.from_numpy(np.ascontiguousarray(bag.instances))
                self._patches[first:n_used] = self._device.receive(patches)
            firsts.append(first)
        return firsts

    def take(
        self, rows: Int[Tensor, " patch"], *, symmetry: Int[Tensor, " patch"]
    ) -> UInt8[Tensor, "patch size size 3"]:
        """The patches in these rows, each turned by its symmetry as in `apply_symmetries`."""
        size = self._patches.shape[1]
        pixels = rows.unsqueeze(1) * (size * size) + self._pixel_order[symmetry]
        return self._patches.view(-1, 3)[pixels].view(len(rows), size, size, 3)

    def _make_room(self, n: int) -> None:
        if n > len(self._patches):
            more = self._patches.new_empty((2 * n - len(self._patches), *self._patches.shape[1:]))
            self._patches = torch.cat([self._patches, more])

"""Dropout whose random bits are computed from a seed and a count, the same on every device."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib

import torch
from jaxtyping import Int32, Num
from torch import Tensor, nn

LEVELS = 65_536
"""Random bits of one value: 16. The share that is dropped is rounded to 1 / 65,536."""


class CountedDropout(nn.Module):
    """Dropout by a counter-based random generator.

    The mask of step t depends on the seed and on t alone. It is the same on a CPU and on a GPU, and the same
    whether a network is trained alone or in a population. It is also several times as fast as torch's, which
    draws its values one after the other. The seed is that of torch's generator when the network is made.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.seed = torch.initial_seed()
        self.step = 0

    def forward(self, x: Num[Tensor, "instance dim"]) -> Num[Tensor, "instance dim"]:
        """Some values set to 0 and the others scaled up, in training; otherwise x."""
        if not self.training or self.p == 0:
            return x
        key = dropout_key(self.seed, step=self.step)
        self.step += 1
        mask = dropout_masks(torch.tensor([key], dtype=torch.int32), n=x.numel(), p=self.p, like=x)
        return x * mask.view(x.shape)


def dropout_key(seed: int, *, step: int) -> int:
    """The key of the random bits of one step, as a signed number of 32 bits."""
    digest = hashlib.blake2b(f"{seed} {step}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True)


def dropout_masks(keys: Int32[Tensor, " key"], *, n: int, p: float, like: Tensor) -> Num[Tensor, "key n"]:
    """For each key, n factors: 0 for a share p of them, 1 / (1 - p) for the others.

    Value i of a key does not depend on n, so a network can be given more values than it has.

    Args:
        keys: See `dropout_key`.
        n: Number of values of each key.
        p: Share of zeros.
        like: Its dtype and device are those of the factors.
    """
    dropped = round(p * LEVELS)
    words = _mixed(torch.arange((n + 1) // 2, dtype=torch.int32, device=like.device))
    bits = _mixed(words + keys.to(like.device).unsqueeze(1)).view(torch.int16)[:, :n]
    return (bits >= dropped - LEVELS // 2).to(like.dtype).mul_(LEVELS / (LEVELS - dropped))


def _mixed(words: Int32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """The words, changed in place by a bijection that spreads every bit over all others.

    Source: constants of `lowbias32`, C. Wellons, "Prospecting for hash functions", 2018.
    """
    words ^= _shifted(words, 16)
    words *= 0x7FEB352D
    words ^= _shifted(words, 15)
    words *= 0x846CA68B - 2**32
    words ^= _shifted(words, 16)
    return words


def _shifted(words: Int32[Tensor, "*shape"], by: int) -> Int32[Tensor, "*shape"]:
    """The words shifted to the right as if they had no sign."""
    return (words >> by) & (2 ** (32 - by) - 1)

"""Convolution, pooling and ReLU of stacked networks, on tiles of patches of one network each."""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from functools import cache
from importlib.util import find_spec

from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional


def conv_pool_relu(
    x: Num[Tensor, "row height width channel"],
    *,
    weight: Float[Tensor, "tile out channel kernel kernel"],
    bias: Float[Tensor, "tile out"],
) -> Num[Tensor, "row pooled_height pooled_width out"]:
    """Each tile convolved with its weights, then the largest of each 2x2, plus bias, then ReLU.

    One matrix product for all tiles, over the windows of the kernel. The bias comes after pooling, which
    gives the same numbers for a quarter of the work. On a GPU, where Triton is there, what is not a matrix
    product runs in `triton_conv`, which passes over the memory less often.

    Args:
        x: Patches of equal tiles, one tile after the other.
        weight: Weights of the network of each tile.
        bias: Its biases.
    """
    kernel, n_tiles = weight.shape[-1], len(weight)
    matrix = weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
    if x.is_cuda and _has_triton():
        from hardmil.mil.triton_conv import ConvPoolRelu

        return ConvPoolRelu.apply(x, matrix, bias, kernel)
    side = _even(x.shape[1] - kernel + 1)
    windows = x.unfold(1, kernel, 1).unfold(2, kernel, 1)[:, :side, :side].permute(0, 1, 2, 4, 5, 3)
    convolved = windows.reshape(n_tiles, -1, matrix.shape[1]) @ matrix
    channels_last = convolved.view(len(x), side, side, -1).permute(0, 3, 1, 2)
    pooled = functional.max_pool2d(channels_last, 2).permute(0, 2, 3, 1)
    biased = pooled.reshape(n_tiles, -1, pooled.shape[-1]) + bias.unsqueeze(1)
    return biased.relu_().view(pooled.shape)


def in_eights(
    weight: Float[Tensor, "network out channel kernel kernel"],
    bias: Float[Tensor, "network out"],
    *,
    n_channels: int,
) -> tuple[Tensor, Tensor]:
    """Weights with zeros for the channels that the input has more, and for outputs up to a multiple of 8.

    The fastest matrix products of a GPU in bfloat16 take rows of 16 bytes.
    """
    n_more = -weight.shape[1] % 8
    zeros_at_end = (0, 0, 0, 0, 0, n_channels - weight.shape[2], 0, n_more)
    return functional.pad(weight, zeros_at_end), functional.pad(bias, (0, n_more))


def _even(n: int) -> int:
    """Pooling drops the last row and column of an odd number."""
    return n // 2 * 2


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None

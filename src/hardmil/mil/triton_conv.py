"""The memory-bound parts of `stacked_conv` as Triton kernels, for CUDA devices.

Torch's own operations for windows and pooling take most of the time of a step on a GPU, because they keep
positions as int64 and pass over the memory several times. Each kernel here handles one patch.
"""

# Triton has no types, and writes the constants of a kernel in capitals.
# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: N803

import torch
import triton
import triton.language as tl
from torch import Tensor


class ConvPoolRelu(torch.autograd.Function):
    """`conv_pool_relu` with weights as [tile, kernel * kernel * channel, out]."""

    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor, bias: Tensor, kernel: int) -> Tensor:
        """The output; keeps the windows and the place of the largest value of each 2x2."""
        (n_rows, size, _, n_channels), (n_tiles, n_values, n_out) = x.shape, matrix.shape
        side = (size - kernel + 1) // 2
        windows = x.new_empty((n_tiles, n_rows // n_tiles * (2 * side) ** 2, n_values))
        _windows[(n_rows,)](x.contiguous(), windows, size, 2 * side, n_channels, kernel)
        convolved = windows @ matrix
        pooled = x.new_empty((n_rows, side, side, n_out))
        place = torch.empty_like(pooled, dtype=torch.uint8)
        _pool[(n_rows,)](convolved, bias.contiguous(), pooled, place, n_rows // n_tiles, side, n_out)
        ctx.save_for_backward(windows, matrix, pooled, place)
        ctx.kernel, ctx.shape = kernel, x.shape
        return pooled

    @staticmethod
    def backward(ctx, grad: Tensor):
        """The gradients of x, where it is asked for, of the matrix and of the bias."""
        windows, matrix, pooled, place = ctx.saved_tensors
        (n_rows, size, _, n_channels), (n_tiles, _, n_out) = ctx.shape, matrix.shape
        side = pooled.shape[1]
        grad = (grad * (pooled > 0)).contiguous()
        of_convolved = windows.new_empty((n_tiles, windows.shape[1], n_out))
        _unpool[(n_rows,)](grad, place, of_convolved, side, n_out)
        of_bias = grad.view(n_tiles, -1, n_out).sum(dim=1)
        of_matrix = windows.transpose(1, 2) @ of_convolved
        if not ctx.needs_input_grad[0]:
            return None, of_matrix, of_bias, None
        of_windows = of_convolved @ matrix.transpose(1, 2)
        of_x = grad.new_empty(ctx.shape)
        _sum_windows[(n_rows,)](of_windows, of_x, size, 2 * side, n_channels, ctx.kernel)
        return of_x, of_matrix, of_bias, None


@triton.jit
def _windows(
    x, windows, SIZE: tl.constexpr, SIDE: tl.constexpr, CHANNELS: tl.constexpr, KERNEL: tl.constexpr
):
    """windows[row, y, x, ky, kx, channel] = x[row, y + ky, x + kx, channel]."""
    row = tl.program_id(0).to(tl.int64)
    run: tl.constexpr = KERNEL * CHANNELS
    column = tl.arange(0, triton.next_power_of_2(SIDE))[:, None]
    value = tl.arange(0, triton.next_power_of_2(run))[None, :]
    is_inside = (column < SIDE) & (value < run)
    source = x + row * SIZE * SIZE * CHANNELS + column * CHANNELS + value
    target = windows + row * SIDE * SIDE * KERNEL * run + column * KERNEL * run + value
    for y in range(SIDE):
        for ky in range(KERNEL):
            found = tl.load(source + (y + ky) * SIZE * CHANNELS, mask=is_inside)
            tl.store(target + y * SIDE * KERNEL * run + ky * run, found, mask=is_inside)


@triton.jit
def _sum_windows(
    of_windows, of_x, SIZE: tl.constexpr, SIDE: tl.constexpr, CHANNELS: tl.constexpr, KERNEL: tl.constexpr
):
    """The transpose of `_windows`."""
    row = tl.program_id(0).to(tl.int64)
    run: tl.constexpr = KERNEL * CHANNELS
    column = tl.arange(0, triton.next_power_of_2(SIZE))[:, None]
    channel = tl.arange(0, triton.next_power_of_2(CHANNELS))[None, :]
    is_inside = (column < SIZE) & (channel < CHANNELS)
    source = of_windows + row * SIDE * SIDE * KERNEL * run + channel
    target = of_x + row * SIZE * SIZE * CHANNELS + column * CHANNELS + channel
    for y in range(SIZE):
        total = tl.zeros(is_inside.shape, tl.float32)
        for ky in range(KERNEL):
            for kx in range(KERNEL):
                from_y, from_x = y - ky, column - kx
                is_window = (from_y >= 0) & (from_y < SIDE) & (from_x >= 0) & (from_x < SIDE)
                window = (from_y * SIDE + from_x) * KERNEL * run + ky * run + kx * CHANNELS
                found = tl.load(source + window, mask=is_window & is_inside, other=0.0)
                total += found.to(tl.float32)
        tl.store(target + y * SIZE * CHANNELS, total.to(of_x.dtype.element_ty), mask=is_inside)


@triton.jit
def _pool(convolved, bias, pooled, place, ROWS: tl.constexpr, SIDE: tl.constexpr, OUT: tl.constexpr):
    """The first of the largest of each 2x2, its place among the four, plus bias, ReLU; ROWS in each tile."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, triton.next_power_of_2(SIDE))[:, None]
    out = tl.arange(0, triton.next_power_of_2(OUT))[None, :]
    is_inside = (column < SIDE) & (out < OUT)
    added = tl.load(bias + row // ROWS * OUT + out, mask=out < OUT)
    source = convolved + row * 4 * SIDE * SIDE * OUT + 2 * column * OUT + out
    target = row * SIDE * SIDE * OUT + column * OUT + out
    for y in range(SIDE):
        corner = source + 4 * y * SIDE * OUT
        largest = tl.load(corner, mask=is_inside, other=0.0)
        at = tl.zeros(is_inside.shape, tl.int32)
        for number in tl.static_range(1, 4):
            step = ((number // 2) * 2 * SIDE + number % 2) * OUT
            other = tl.load(corner + step, mask=is_inside, other=0.0)
            at = tl.where(other > largest, number, at)
            largest = tl.where(other > largest, other, largest)
        result = largest.to(tl.float32) + added.to(tl.float32)
        result = tl.where(result < 0, 0.0, result)
        tl.store(pooled + target + y * SIDE * OUT, result.to(pooled.dtype.element_ty), mask=is_inside)
        tl.store(place + target + y * SIDE * OUT, at.to(tl.uint8), mask=is_inside)


@triton.jit
def _unpool(grad, place, of_convolved, SIDE: tl.constexpr, OUT: tl.constexpr):
    """The gradient of each 2x2 at the place of its largest value, 0 at the three others."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, triton.next_power_of_2(SIDE))[:, None]
    out = tl.arange(0, triton.next_power_of_2(OUT))[None, :]
    is_inside = (column < SIDE) & (out < OUT)
    source = row * SIDE * SIDE * OUT + column * OUT + out
    target = of_convolved + row * 4 * SIDE * SIDE * OUT + 2 * column * OUT + out
    for y in range(SIDE):
        value = tl.load(grad + source + y * SIDE * OUT, mask=is_inside, other=0.0)
        at = tl.load(place + source + y * SIDE * OUT, mask=is_inside, other=0).to(tl.int32)
        corner = target + 4 * y * SIDE * OUT
        for number in tl.static_range(4):
            step = ((number // 2) * 2 * SIDE + number % 2) * OUT
            tl.store(corner + step, tl.where(at == number, value, 0.0).to(value.dtype), mask=is_inside)

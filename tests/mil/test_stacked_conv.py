import pytest
import torch
from torch.nn import functional

from hardmil.mil.stacked_conv import conv_pool_relu, in_eights


def _tiles(
    size: int, channels: int, out: int, kernel: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(6, size, size, channels, generator=generator, requires_grad=True)
    weight = torch.randn(3, out, channels, kernel, kernel, generator=generator, requires_grad=True)
    return x, weight, torch.randn(3, out, generator=generator, requires_grad=True)


def _one_by_one(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Two patches a tile, with torch's own convolution."""
    tiles = x.permute(0, 3, 1, 2).split(2)
    outputs = [functional.conv2d(tile, weight[i], bias[i]) for i, tile in enumerate(tiles)]
    return functional.max_pool2d(torch.cat(outputs), 2).relu().permute(0, 2, 3, 1)


@pytest.mark.parametrize("shape", [(27, 3, 36, 4), (12, 36, 48, 3), (32, 3, 36, 4), (13, 5, 7, 3)])
def test_each_tile_is_convolved_with_the_weights_of_its_network(shape: tuple[int, int, int, int]):
    x, weight, bias = _tiles(*shape)
    found, expected = conv_pool_relu(x, weight=weight, bias=bias), _one_by_one(x, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight, bias), upstream),
        torch.autograd.grad(expected, (x, weight, bias), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_zeros_up_to_a_multiple_of_eight_change_no_value():
    x, weight, bias = _tiles(12, 5, 7, 3)
    expected = conv_pool_relu(x, weight=weight, bias=bias)
    more = functional.pad(x, (0, 3))
    found = conv_pool_relu(
        more, **dict(zip(("weight", "bias"), in_eights(weight, bias, n_channels=8), strict=True))
    )
    assert found.shape[-1] == 8
    torch.testing.assert_close(found[..., :7], expected, rtol=1e-4, atol=1e-4)
    assert not found[..., 7].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the Triton kernels run nowhere else")
@pytest.mark.parametrize("shape", [(27, 3, 36, 4), (12, 36, 48, 3), (32, 3, 36, 4), (13, 5, 7, 3)])
def test_a_gpu_gives_the_values_and_gradients_of_a_cpu(shape: tuple[int, int, int, int]):
    arguments = _tiles(*shape)
    expected = conv_pool_relu(arguments[0], weight=arguments[1], bias=arguments[2])
    upstream = torch.randn_like(expected)
    on_gpu = [one.detach().cuda().requires_grad_() for one in arguments]
    found = conv_pool_relu(on_gpu[0], weight=on_gpu[1], bias=on_gpu[2])
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    for one, other in zip(
        torch.autograd.grad(found, on_gpu, upstream.cuda()),
        torch.autograd.grad(expected, arguments, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-3, atol=1e-2)

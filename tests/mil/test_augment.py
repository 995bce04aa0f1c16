import numpy as np
import torch

from hardmil.mil.augment import N_SYMMETRIES, apply_symmetries, draw_symmetries


def _patches(n: int, size: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def test_each_patch_is_turned_then_mirrored():
    patches, codes = _patches(24), torch.arange(24) % 8
    turned = apply_symmetries(patches, symmetry=codes).numpy()
    for i, (patch, code) in enumerate(zip(patches.numpy(), codes.tolist(), strict=True)):
        expected = np.rot90(patch, code % 4)
        if code >= 4:
            expected = np.fliplr(expected)
        np.testing.assert_array_equal(turned[i], expected)


def test_the_eight_codes_are_eight_symmetries():
    one = _patches(1).expand(N_SYMMETRIES, -1, -1, -1)
    turned = apply_symmetries(one, symmetry=torch.arange(N_SYMMETRIES)).numpy()
    assert len({patch.tobytes() for patch in turned}) == 8


def test_all_eight_are_drawn_as_often():
    drawn = draw_symmetries(4000, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=N_SYMMETRIES)
    assert len(counts) == N_SYMMETRIES
    assert counts.min() > 430, counts
    assert counts.max() < 570, counts


def test_turned_patches_keep_order_and_pixels_and_the_input():
    patches = _patches(40)
    before = patches.clone()
    turned = apply_symmetries(patches, symmetry=torch.arange(40) % 8)
    assert torch.equal(patches, before)
    for patch, out in zip(patches, turned, strict=True):
        pixels, expected = out.reshape(-1, 3).tolist(), patch.reshape(-1, 3).tolist()
        assert sorted(pixels) == sorted(expected)


def test_same_seed_same_symmetries():
    def draw(seed: int) -> torch.Tensor:
        return draw_symmetries(20, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))

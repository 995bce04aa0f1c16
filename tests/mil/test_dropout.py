import pytest
import torch

from hardmil.mil.dropout import CountedDropout, dropout_key, dropout_masks

ONE = torch.ones(1)


def _masks(*, n_keys: int = 400, n: int = 501, p: float = 0.5) -> torch.Tensor:
    keys = torch.tensor([dropout_key(7, step=step) for step in range(n_keys)], dtype=torch.int32)
    return dropout_masks(keys, n=n, p=p, like=ONE)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p_and_the_mean_stays(p: float):
    masks = _masks(p=p)
    n = masks.numel()
    spread = (p * (1 - p) / n) ** 0.5
    assert abs((masks == 0).float().mean().item() - p) < 5 * spread
    kept = masks[masks > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-4, atol=0)


def test_masks_of_neighbouring_steps_and_values_do_not_depend_on_one_another():
    dropped = (_masks() == 0).double() - 0.5
    limit = 5 * 0.25 / dropped.numel() ** 0.5
    assert abs((dropped[1:] * dropped[:-1]).mean().item()) < limit
    for lag in (1, 2, 3, 64, 256):
        assert abs((dropped[:, lag:] * dropped[:, :-lag]).mean().item()) < limit
    by_value, by_step = dropped.mean(dim=0), dropped.mean(dim=1)
    assert by_value.std().item() == pytest.approx(0.5 / len(dropped) ** 0.5, rel=0.2)
    assert by_step.std().item() == pytest.approx(0.5 / dropped.shape[1] ** 0.5, rel=0.2)


def _mixed(word: int) -> int:
    """The bijection on words of 32 bits, in exact integers."""
    word &= 0xFFFFFFFF
    word = (word ^ word >> 16) * 0x7FEB352D & 0xFFFFFFFF
    word = (word ^ word >> 15) * 0x846CA68B & 0xFFFFFFFF
    return word ^ word >> 16


@pytest.mark.parametrize("key", [0, 1, -5, 2**31 - 1, -(2**31)])
def test_bits_are_those_of_exact_integers(key: int):
    masks = dropout_masks(torch.tensor([key], dtype=torch.int32), n=200, p=0.5, like=ONE)
    words = [_mixed(_mixed(i) + key) for i in range(100)]
    halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
    assert (masks[0] > 0).tolist() == [half < 0x8000 for half in halves]


def test_a_value_does_not_depend_on_how_many_there_are():
    keys = torch.tensor([3, 4], dtype=torch.int32)
    long, short = (dropout_masks(keys, n=n, p=0.3, like=ONE) for n in (64, 7))
    assert torch.equal(long[:, :7], short)


def test_prediction_and_p_of_0_leave_values_as_they_are():
    x = torch.rand(3, 4)
    assert CountedDropout(0.5).eval()(x) is x
    assert CountedDropout(0.0)(x) is x


def test_each_step_has_other_masks_and_a_seed_repeats_them():
    def draw(seed: int) -> list[torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layer = CountedDropout(0.5)
        return [layer(torch.ones(20, 8)) for _ in range(3)]

    first, again, other = draw(1), draw(1), draw(2)
    assert not torch.equal(first[0], first[1])
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_what_is_dropped_gets_no_gradient():
    x = torch.ones(6, 6, requires_grad=True)
    out = CountedDropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())

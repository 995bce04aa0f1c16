import numpy as np
import pytest
import torch

from hardmil.bags.bag import Bag
from hardmil.config.model import ModelConfig, ResolvedModelConfig, resolve_config
from hardmil.mil.augment import apply_symmetries
from hardmil.mil.steps import steps_of_epoch


def _config(**settings: object) -> ResolvedModelConfig:
    return resolve_config(ModelConfig.model_validate({"training": settings}), kind="pixels")


def _bag(name: str = "s", n: int = 30) -> Bag:
    pixels = np.random.default_rng(len(name)).integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return Bag(name, name, 0, pixels, np.stack([np.arange(n), 7 * np.arange(n)], axis=1), 5)


def test_a_subset_keeps_each_instance_with_its_coordinates():
    bag, config = _bag(), _config(max_instances=5)
    (step,) = steps_of_epoch([bag], mix=None, config=config, generator=torch.Generator())
    (thin,) = step.bags
    assert len(thin) == 5
    for pixels, (x, y) in zip(thin.instances, thin.coords, strict=True):
        assert y == 7 * x
        np.testing.assert_array_equal(pixels, bag.instances[x])


@pytest.mark.parametrize("augment", [True, False])
def test_a_packed_step_has_the_patches_of_its_bags_turned_as_drawn(augment: bool):
    bags = [_bag("a", 3), _bag("bb", 4)]
    config = _config(bags_per_step=2, augment=augment)
    (step,) = steps_of_epoch(bags, mix=None, config=config, generator=torch.Generator().manual_seed(1))
    joined = torch.from_numpy(np.concatenate([bag.instances for bag in step.bags]))
    packed = step.packed(device="cpu")
    assert packed.offsets.tolist() == [0, *np.cumsum([len(bag) for bag in step.bags])]
    assert (step.symmetry is not None) == augment
    if step.symmetry is not None:
        joined = apply_symmetries(joined, symmetry=step.symmetry)
    assert torch.equal(packed.instances, joined)


def test_what_mining_puts_into_a_bag_is_turned_too():
    (step,) = steps_of_epoch(
        [_bag("a", 3)], mix=lambda bag: _bag("mixed", 9), config=_config(), generator=torch.Generator()
    )
    assert step.bags[0].slide_id == "mixed"
    assert step.symmetry is not None
    assert len(step.symmetry) == 9

import re

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.bundles.training_profile import TrainingProfile, profile_of

N_SLIDES, SIZE_PX = 12, 64


def _bag(
    *, n: int = 40, colour: float = 150.0, size_px: int = SIZE_PX, pixels: bool = True, seed: int = 0
) -> Bag:
    rng = np.random.default_rng(seed)
    instances = colour + rng.normal(0, 5, (n, 8, 8, 3) if pixels else (n, 6))
    instances = instances.astype(np.uint8 if pixels else np.float32)
    return Bag(f"s{seed}", f"c{seed}", 0, instances, np.zeros((n, 2), np.int64), size_px)


def _known(*, pixels: bool = True, n_slides: int = N_SLIDES) -> TrainingProfile:
    return profile_of([_bag(colour=140 + 2 * i, pixels=pixels, seed=i) for i in range(n_slides)])


@pytest.mark.parametrize("pixels", [True, False])
def test_a_slide_like_the_training_slides_is_no_reason_to_warn(pixels: bool):
    assert _known(pixels=pixels).warnings(_bag(colour=150, pixels=pixels, seed=99)) == []


@pytest.mark.parametrize(("pixels", "word"), [(True, "colour far"), (False, "features (colour, stain")])
def test_another_colour_is_named(pixels: bool, word: str):
    (warning,) = _known(pixels=pixels).warnings(_bag(colour=200, pixels=pixels))
    assert warning.startswith(word)
    assert re.search(r"[\d.]+ times as far", warning)


def test_how_far_is_not_known_of_few_slides():
    assert _known(n_slides=4).warnings(_bag(colour=200)) == []


def test_few_patches_and_another_resolution_are_named_with_both_values():
    warnings = _known().warnings(_bag(n=19, size_px=32))
    few, size = warnings
    assert re.search("^few patches: 19.* 40$", few)
    assert re.search("mpp.* 32 level-0 px.* 64$", size)
    assert _known().warnings(_bag(n=20, size_px=66)) == []


def test_unknown_coordinates_say_nothing_of_resolution():
    assert _known().warnings(_bag(size_px=0)) == []
    placeless = profile_of([_bag(size_px=0, seed=i) for i in range(N_SLIDES)])
    assert placeless.sizes_level0_px is None
    assert all("mpp" not in one for one in placeless.warnings(_bag(size_px=32)))


def test_comes_back_from_json():
    known = _known()
    assert TrainingProfile.model_validate_json(known.model_dump_json()) == known

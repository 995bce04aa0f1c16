from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.phantom.cells import (
    LESION,
    LOOK_ALIKE,
    Focus,
    Nuclei,
    contours,
    keep_apart,
    nucleus_share,
    populate,
    stain_nuclei,
)
from hardmil.phantom.tissue import Ground, blob

SHAPE = (420, 640)


def ground() -> Ground:
    ones = np.ones(SHAPE, np.float32)
    return Ground(ones, 0.05 * ones, 0.5 * ones, 0.6 * ones)


def focus(*, is_lesion: bool) -> Focus:
    rng = np.random.default_rng(3)
    return Focus(
        blob(rng, centre=np.array([320.0, 210.0]), radius=120, wobble=0.1),
        "lesion" if is_lesion else "look-alike",
    )


def crowd(*, is_lesion: bool) -> Nuclei:
    """The nuclei of one large focus."""
    foci = [focus(is_lesion=is_lesion)]
    nuclei = populate(np.random.default_rng(4), ground=ground(), foci=foci, vessels=[])
    rim = foci[0].outline.rim.astype(np.float32)
    is_in = np.array([cv2.pointPolygonTest(rim, (x, y), False) > 0 for x, y in nuclei.centre.tolist()])
    return Nuclei(**{item.name: getattr(nuclei, item.name)[is_in] for item in fields(Nuclei)})


@given(seed=st.integers(0, 999), crowding=st.sampled_from([0.8, 1.0, 1.2]))
def test_kept_nuclei_are_apart_and_the_others_are_too_close(seed: int, crowding: float):
    rng = np.random.default_rng(seed)
    centre, radius = rng.uniform(0, 60, (40, 2)), rng.uniform(2, 9, 40)
    kept = keep_apart(centre, radius, crowding=crowding).tolist()
    for index in range(40):
        earlier = [other for other in kept if other < index]
        is_free = all(
            np.hypot(*(centre[index] - centre[other])) >= crowding * (radius[index] + radius[other])
            for other in earlier
        )
        assert is_free == (index in kept)


def test_lesion_nuclei_are_larger_and_vary_more_than_those_of_a_look_alike():
    lesion, look_alike = crowd(is_lesion=True), crowd(is_lesion=False)
    assert lesion.radius.mean() > 1.05 * look_alike.radius.mean()
    assert lesion.radius.std() > 2 * look_alike.radius.std()
    assert lesion.density.std() > 1.3 * look_alike.density.std()
    assert LESION.irregularity > LOOK_ALIKE.irregularity


def test_both_foci_are_crowded():
    """Both kinds of nuclei cover a similar share of their focus: crowding does not distinguish them."""
    area = cv2.contourArea(focus(is_lesion=True).outline.rim.astype(np.float32))
    for is_lesion in (True, False):
        covered = (np.pi * crowd(is_lesion=is_lesion).radius ** 2).sum() / area
        assert 0.45 < covered < 0.85


def test_fibroblasts_follow_the_fibres():
    nuclei = populate(np.random.default_rng(5), ground=ground(), foci=[], vessels=[])
    is_long = nuclei.elongation > 2
    assert is_long.sum() > 50
    assert nuclei.angle[is_long].mean() == pytest.approx(0.6, abs=0.05)


def test_contours_have_the_area_of_their_radius():
    nuclei = crowd(is_lesion=False)
    smooth = replace(nuclei, irregularity=np.zeros_like(nuclei.irregularity))
    areas = [
        cv2.contourArea(outline.astype(np.float32)) for outline in contours(np.random.default_rng(0), smooth)
    ]
    np.testing.assert_allclose(areas, np.pi * nuclei.radius**2, rtol=0.03)


def test_stain_is_in_the_nuclei_only():
    nuclei = crowd(is_lesion=True)
    density = stain_nuclei(np.random.default_rng(0), nuclei, shape=SHAPE)
    assert density[:60].max() == 0
    centre = nuclei.centre.astype(int)
    assert (density[centre[:, 1], centre[:, 0]] > 0.2).all()
    np.testing.assert_array_equal(nucleus_share(density) > 0, density > 0)

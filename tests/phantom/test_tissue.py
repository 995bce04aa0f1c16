import cv2
import numpy as np
import pytest

from hardmil.phantom.tissue import blob, fill, grain, lay_ground, outline, smooth_noise

SHAPE = (420, 640)


@pytest.mark.parametrize("scale_px", [5, 40])
def test_smooth_noise_has_features_of_its_scale(scale_px: int):
    noise = smooth_noise(np.random.default_rng(0), shape=SHAPE, scale_px=scale_px)
    assert noise.shape == SHAPE
    assert abs(noise.mean()) < 0.2
    assert 0.5 < noise.std() < 1.0
    near, far = max(1, scale_px // 5), 4 * scale_px
    assert np.corrcoef(noise[near:].ravel(), noise[:-near].ravel())[0, 1] > 0.8
    assert abs(np.corrcoef(noise[far:].ravel(), noise[:-far].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("sigma_px", [1.0, 2.5])
def test_grain_has_unit_standard_deviation(sigma_px: float):
    noise = grain(np.random.default_rng(0), shape=SHAPE, sigma_px=sigma_px)
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1, abs=0.1)


def test_blob_has_about_the_area_of_its_circle():
    rng = np.random.default_rng(0)
    blobs = [blob(rng, centre=np.array([300.0, 200.0]), radius=80, wobble=0.14) for _ in range(20)]
    areas = [cv2.contourArea(item.rim.astype(np.float32)) for item in blobs]
    assert np.mean(areas) == pytest.approx(np.pi * 80**2, rel=0.1)
    np.testing.assert_allclose(blobs[0].scaled(1), blobs[0].rim)
    half = cv2.contourArea(blobs[0].scaled(0.5).astype(np.float32))
    assert half == pytest.approx(areas[0] / 4, rel=1e-4)


@pytest.mark.parametrize("soften_px", [1.0, 12.0])
def test_fill_is_one_inside_and_zero_outside(soften_px: float):
    square = np.array([[100.0, 80.0], [400.0, 80.0], [400.0, 300.0], [100.0, 300.0]])
    area = fill([square], shape=SHAPE, soften_px=soften_px)
    assert area[190, 250] == pytest.approx(1)
    assert area[20, 20] == 0
    # OpenCV draws the border half a pixel outside.
    assert area[190, 100] == pytest.approx(0.6, abs=0.2)
    assert area.sum() == pytest.approx(300 * 220, rel=0.05)


def test_without_polygons_the_map_is_empty():
    assert not fill([], shape=SHAPE, soften_px=2).any()


def test_the_centre_is_tissue_and_the_corners_are_not():
    depth = outline(np.random.default_rng(1), shape=SHAPE)
    assert depth[210, 320] > 0
    assert max(depth[0, 0], depth[0, -1], depth[-1, 0], depth[-1, -1]) < 0


def test_ground_has_holes_where_fat_and_vessels_are():
    rng = np.random.default_rng(2)
    depth = np.ones(SHAPE, np.float32)
    fat = blob(rng, centre=np.array([200.0, 200.0]), radius=120, wobble=0.1)
    vessel = blob(rng, centre=np.array([500.0, 200.0]), radius=25, wobble=0.1)
    ground = lay_ground(rng, depth=depth, nests=[], fat=[fat], vessels=[vessel])
    is_fat = cv2.fillPoly(np.zeros(SHAPE, np.uint8), [fat.rim.astype(np.int32)], 1) > 0
    assert ground.tissue[is_fat].mean() < 0.6
    assert ground.tissue[:, 350:450].mean() > 0.9
    assert ground.tissue.min() >= 0
    assert ground.tissue.max() <= 1


def test_fibres_run_along_their_angle():
    """Stain changes less along the fibres than across them."""
    rng = np.random.default_rng(3)
    ground = lay_ground(rng, depth=np.ones(SHAPE, np.float32), nests=[], fat=[], vessels=[])
    y, x = np.mgrid[20 : SHAPE[0] - 20, 20 : SHAPE[1] - 20].astype(np.float32)
    angle = ground.fibre_angle[20:-20, 20:-20]
    steps = {"along": (np.cos(angle), np.sin(angle)), "across": (-np.sin(angle), np.cos(angle))}
    change = {
        way: np.abs(
            cv2.remap(ground.eosin, x + 6 * dx, y + 6 * dy, cv2.INTER_LINEAR) - ground.eosin[20:-20, 20:-20]
        ).mean()
        for way, (dx, dy) in steps.items()
    }
    assert change["along"] < 0.75 * change["across"]

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.support.reviews import SIZE, write_reviewed_study

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import write_bag
from hardmil.bags.slide_table import SlideRow
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.review import candidate_features as module
from hardmil.review.candidate_features import candidate_features, cluster_candidates

INDEX = np.array([1, 4, 20])
CORNERS = np.stack([INDEX % 6, INDEX // 6], axis=1) * SIZE
ROW = SlideRow("s3", "c1", "tumour")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_reviewed_study(tmp_path / "study")


def _features(study: Study) -> np.ndarray:
    with h5py.File(study.folder / "feats" / "s3.h5") as file:
        return np.asarray(file["features"])


def _found(study: Study, index: np.ndarray = INDEX, corners: np.ndarray = CORNERS) -> np.ndarray | None:
    return candidate_features(study, ROW, index=index, corners=corners)


def test_features_are_rows_of_the_bag(study: Study):
    np.testing.assert_array_equal(_found(study), _features(study)[INDEX])


def test_features_of_clam_are_rows_too(study: Study):
    expected = _features(study)
    with h5py.File(study.folder / "feats" / "s3.h5", "a") as file:
        del file["features"]
        file["features"] = expected[None].astype(np.float64)
    np.testing.assert_array_equal(_found(study), expected[INDEX])


def test_a_file_without_coordinates_is_used_as_its_bag_is(study: Study):
    expected = _features(study)
    torch.save(torch.from_numpy(expected), study.folder / "feats" / "s3.pt")
    (study.folder / "feats" / "s3.h5").unlink()
    np.testing.assert_array_equal(_found(study, corners=np.zeros_like(CORNERS)), expected[INDEX])


def test_other_patches_and_missing_bags_have_no_features(study: Study):
    assert _found(study, corners=CORNERS + 1) is None
    assert _found(study, index=np.array([1, 4, 30])) is None
    (study.folder / "feats" / "s3.h5").write_bytes(b"damaged")
    assert _found(study) is None
    (study.folder / "feats" / "s3.h5").unlink()
    assert _found(study) is None


def test_pixels_are_small_pictures(tmp_path: Path):
    folder = write_reviewed_study(tmp_path / "study").folder
    lines = [f"s{i},c{i},{'tumour' if i % 2 else 'normal'},s{i}.png" for i in range(4)]
    (folder / "slides.csv").write_text("\n".join(["slide_id,case_id,label,path", *lines]) + "\n")
    study = open_study(folder, overrides=["features=null", "encode=pixels"])
    pixels = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    pixels[1, :16] = (200, 100, 50)
    coords = np.array([[0, 0], [32, 0], [64, 0]])
    write_bag(study.bag_path("s3"), Bag("s3", "c3", 1, pixels, coords, 32), attributes={})
    found = _found(study, index=np.array([0, 1]), corners=coords[:2])
    assert found is not None
    assert found.shape == (2, 8 * 8 * 3)
    assert found[0].tolist() == [0] * 192
    assert found[1].tolist() == [200, 100, 50] * 32 + [0] * 96


def test_alike_patches_are_in_one_cluster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PER_CLUSTER", 5)
    rng = np.random.default_rng(0)
    kinds = {0: [0, 1, 0, 1, 2], 2: [2, 2, 0, 1, 1, 0], 3: [1, 2, 0, 2]}
    centres = 50 * rng.normal(size=(3, 100))
    features = {
        number: (centres[kind] + rng.normal(size=(len(kind), 100))).astype(np.float32)
        for number, kind in kinds.items()
    }
    found = cluster_candidates(features, sizes=[5, 2, 6, 4], seed=0)
    assert found[1].tolist() == [-1, -1]
    pairs = {
        (kind, cluster)
        for number, some in kinds.items()
        for kind, cluster in zip(some, found[number].tolist(), strict=True)
    }
    assert len(pairs) == 3
    again = cluster_candidates(features, sizes=[5, 2, 6, 4], seed=0)
    assert [one.tolist() for one in again] == [one.tolist() for one in found]


def test_nothing_to_cluster():
    assert [one.tolist() for one in cluster_candidates({}, sizes=[0, 2], seed=0)] == [[], [-1, -1]]

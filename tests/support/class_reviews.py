"""Evaluated studies of three classes for reviews: exclusive, ordered, or several for a slide."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_classes import write_class_study
from tests.support.many_labels import write_multi_study
from tests.support.pyramids import write_rgb_pyramid
from tests.support.studies import read_csv, write_csv

from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.report.evaluation_run import evaluate

N_SLIDES = 24


def evaluated_class_study(folder: Path, *, ordinal: bool = False) -> Study:
    """A study of features, each slide of another case, evaluated with `ours`."""
    write_class_study(folder, ordinal=ordinal, n=N_SLIDES)
    study = open_study(folder, overrides=["evaluation.arms=[ours]"])
    evaluate(study, quiet=True)
    return study


def evaluated_multi_study(folder: Path) -> Study:
    """A study whose slides may have several of a, b and c, each of another case, evaluated with `ours`.

    It is trained so little that some calls are wrong.
    """
    write_multi_study(folder, n=N_SLIDES)
    study = open_study(folder, overrides=["evaluation.arms=[ours]", "training.epochs=3"])
    evaluate(study, quiet=True)
    return study


def write_class_slides(folder: Path) -> None:
    """Slides to look at for such a study: pink, the patches of the bag in a row."""
    (folder / "slides").mkdir()
    rows = read_csv(folder / "slides.csv")
    for number, row in enumerate(rows):
        with h5py.File(folder / "feats" / f"{row['slide_id']}.h5") as file:
            corners = np.asarray(file["coords"])
        width = int(corners[:, 0].max()) + 256
        noise = np.random.default_rng(number).normal((225, 170, 205), 12, (1000 // 8, width // 8, 3))
        picture = noise.clip(0, 255).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        row["path"] = f"slides/{row['slide_id']}.tif"
        write_rgb_pyramid(folder / row["path"], picture, mpp=0.5)
    write_csv(folder / "slides.csv", rows)


@pytest.fixture(scope="module")
def class_review(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three exclusive classes, evaluated; not to be written to."""
    return evaluated_class_study(tmp_path_factory.mktemp("classes") / "study")


@pytest.fixture(scope="module")
def multi_review(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Several classes for a slide, evaluated; not to be written to."""
    return evaluated_multi_study(tmp_path_factory.mktemp("labels") / "study")


@pytest.fixture(scope="session")
def evaluated_multi_review(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a study, with slides to look at; not to be written to."""
    folder = evaluated_multi_study(tmp_path_factory.mktemp("labels") / "study").folder
    write_class_slides(folder)
    return folder


@pytest.fixture
def multi_review_folder(evaluated_multi_review: Path, tmp_path: Path) -> Path:
    """A copy of it, to write to."""
    return shutil.copytree(evaluated_multi_review, tmp_path / "study")


@pytest.fixture(scope="session")
def evaluated_class_review(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a study, with slides to look at; not to be written to."""
    folder = evaluated_class_study(tmp_path_factory.mktemp("classes") / "study").folder
    write_class_slides(folder)
    return folder


@pytest.fixture
def class_review_folder(evaluated_class_review: Path, tmp_path: Path) -> Path:
    """A copy of it, to write to."""
    return shutil.copytree(evaluated_class_review, tmp_path / "study")

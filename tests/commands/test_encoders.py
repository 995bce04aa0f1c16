"""Encoders and other tools' features through the whole pipeline: encode, train, predict."""

import re
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.support.studies import Hardmil, quick, read_csv
from torch import nn

pytestmark = pytest.mark.slow


class Colours(nn.Module):
    """Mean and spread of each channel, times a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        return torch.cat([flat.mean(dim=2), flat.amax(dim=2), flat.amin(dim=2)], dim=1) * self.weight


def export(path: Path, weight: float) -> None:
    path.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Colours(weight).eval(),
            (torch.zeros(2, 3, 24, 24),),
            path,
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )


@pytest.fixture
def encoded(hardmil: Hardmil, study: Path) -> Path:
    """The study, encoded by a small network in an ONNX file in its folder."""
    export(study / "nets" / "colours.onnx", 1.0)
    with (study / "study.yaml").open("a") as file:
        file.write("encode: nets/colours.onnx\n")
    run = hardmil("encode", study)
    assert run.code == 0, run.err
    return study


def names(study: Path) -> set[str]:
    folder = study / "features_colours.onnx"
    found = set()
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            found.add(str(file["features"].attrs["encoder"]))
    return found


def test_other_weights_in_the_same_file_are_another_encoder(hardmil: Hardmil, encoded: Path) -> None:
    slide = next((encoded / "slides").glob("000*"))
    first = names(encoded)
    assert len(first) == 1
    train = hardmil("train", encoded, *quick())
    assert train.code == 0, train.err
    out = encoded / "out"
    known = hardmil("predict", encoded / "bundle", slide, "--output", out, "--mpp", "0.5")
    assert known.code == 0, known.err
    [row] = read_csv(out / "predictions.csv")
    assert 0 <= float(row["bag_score"]) <= 1

    export(encoded / "nets" / "colours.onnx", 2.0)
    other = hardmil("predict", encoded / "bundle", slide, "--output", out)
    assert other.code == 1
    said = " ".join(other.err.split())
    (before,) = first
    assert re.search(f"{before}.*nets/colours.onnx is colours.onnx-", said)

    assert hardmil("encode", encoded).code == 0
    assert len(names(encoded)) == 1
    assert names(encoded) != first, "encoded again"
    mined = hardmil("mine", encoded)
    assert mined.code == 1
    assert "trained on encoder colours.onnx-" in mined.err


def test_workers_write_the_embeddings_that_one_writes(hardmil: Hardmil, encoded: Path) -> None:
    def vectors() -> dict[str, list[list[float]]]:
        found: dict[str, list[list[float]]] = {}
        for path in sorted((encoded / "features_colours.onnx").glob("*.h5")):
            with h5py.File(path) as file:
                found[path.name] = file["features"][()].tolist()
            path.unlink()
        return found

    alone = vectors()
    run = hardmil("encode", encoded, "--workers", 2)
    assert run.code == 0, run.err
    there = vectors()
    assert list(there) == list(alone)
    assert len(there) == 8
    for name, expected in alone.items():
        np.testing.assert_allclose(there[name], expected, atol=1e-5)


def test_files_of_two_encoders_in_one_study_are_refused(hardmil: Hardmil, encoded: Path) -> None:
    kept = encoded / "kept.h5"
    path = encoded / "features_colours.onnx" / "001 a.h5"
    shutil.copy(path, kept)
    export(encoded / "nets" / "colours.onnx", 2.0)
    assert hardmil("encode", encoded).code == 0
    shutil.copy(kept, path)
    run = hardmil("train", encoded, *quick())
    assert run.code == 1
    assert "slide 001 a has encoder colours.onnx-" in run.err


def test_a_mismatch_with_what_the_encoder_was_trained_on_is_printed(hardmil: Hardmil, encoded: Path) -> None:
    (encoded / "nets" / "colours.onnx.json").write_text('{"um_per_px": 0.5, "input_px": 24}')
    run = hardmil("encode", encoded)
    assert run.code == 0
    assert run.out.startswith("note: colours.onnx-")
    assert re.search(r"0\.5 um/px.*patches\.um_per_px is null", run.text)


def test_an_encoder_that_is_not_there_is_named(hardmil: Hardmil, encoded: Path) -> None:
    (encoded / "nets" / "colours.onnx").unlink()
    run = hardmil("encode", encoded)
    assert run.code == 1
    assert "nets/colours.onnx: no such file" in run.err


def test_a_study_of_stamp_features_with_one_slide_of_no_patch(hardmil: Hardmil, feature_study: Path) -> None:
    for path in (feature_study / "feats").iterdir():
        with h5py.File(path) as file:
            features, coords = file["features"][()], file["coords"][()]
        n = 0 if path.stem == "s3" else len(features)
        with h5py.File(path, "w") as file:
            file["coords"], file["feats"] = coords[:n].astype(np.float32), features[:n].astype(np.float16)
            file.attrs.update({"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224, "extractor": "uni2"})
    run = hardmil("train", feature_study)
    assert run.code == 0, run.err
    assert re.search("note: .* s3: left out", run.text)
    assert re.search("coordinates of s0, s1, s2, s4, s5 and 6 more", run.text)
    assert "11 slides" in run.text
    predict = ("predict", feature_study / "bundle", "--features", feature_study / "feats")
    table = ("--slides", feature_study / "slides.csv", "--output", feature_study / "out")
    scored = hardmil(*predict, *table)
    assert scored.code == 1, "one of the slides has no score"
    [failure] = read_csv(feature_study / "out" / "failures.csv")
    assert failure["message"].startswith("slide s3: ")
    assert len(read_csv(feature_study / "out" / "predictions.csv")) == 11
    with h5py.File(feature_study / "feats" / "s0.h5", "a") as file:
        file.attrs["extractor"] = "virchow2"
    hardmil(*predict, *table)
    refused, _ = read_csv(feature_study / "out" / "failures.csv")
    assert re.search("^slide s0: .*virchow2.*trained on encoder uni2", refused["message"])

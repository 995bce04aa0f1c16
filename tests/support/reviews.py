"""A study of features that was evaluated, for reviews, and truth about its patches."""

from pathlib import Path

import h5py
import numpy as np
from tests.support.studies import write_csv

from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.report.evaluation_run import evaluate

SIZE = 64
N_SLIDES, N_PATCHES = 24, 30


def write_reviewed_study(folder: Path) -> Study:
    """24 slides of 12 cases: the first five patches of a positive slide are lesions.

    A third of the negative slides have five patches that look a little like lesions.
    """
    (folder / "feats").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i in range(N_SLIDES):
        features = rng.normal(size=(N_PATCHES, 6)).astype(np.float32)
        is_positive = i // 2 % 2 == 1
        if is_positive:
            features[:5, 0] += 3
        elif i % 3 == 0:
            features[:5, :2] += 2
        coords = np.stack([np.arange(N_PATCHES) % 6, np.arange(N_PATCHES) // 6], axis=1) * SIZE
        with h5py.File(folder / "feats" / f"s{i}.h5", "w") as file:
            file["features"] = features
            dataset = file.create_dataset("coords", data=coords.astype(np.int64))
            dataset.attrs["patch_size_level0"] = SIZE
        label = "tumour" if is_positive else "normal"
        rows.append({"slide_id": f"s{i}", "case_id": f"c{i // 2}", "label": label})
    write_csv(folder / "slides.csv", rows)
    (folder / "study.yaml").write_text(
        "features: feats\n"
        "arm: ours\n"
        "training: {epochs: 6, lr: 0.01}\n"
        "network: {embedding_dim: 8}\n"
        "pooling: {attention_dim: 4}\n"
        "evaluation: {folds: 3, operating_folds: 2, arms: [abmil, ours]}\n",
        encoding="utf-8",
    )
    return open_study(folder)


def evaluated_study(folder: Path) -> Study:
    """The same, evaluated."""
    study = write_reviewed_study(folder)
    evaluate(study, quiet=True)
    return study

"""A study of eight small slides in four formats, a study of features, and the command line in process."""

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from hardmil.cli import main
from hardmil.files.atomic import visible

WIDTH, HEIGHT = 210, 150
SUFFIXES = (".png", ".bmp", ".jpg", ".tif")
QUICK = ("training.epochs=2", "training.lr=1e-3", "network.embedding_dim=16", "pooling.attention_dim=8")


@dataclass(frozen=True)
class Run:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it: with `--json`, lines for people are on stderr."""
        return self.out + self.err


Hardmil = Callable[..., Run]


@pytest.fixture
def hardmil(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hardmil:
    """Runs a command line in this process, errors caught as `main` does."""

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["hardmil", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run


def quick(*more: str) -> list[str]:
    """--set for a network small enough for a test."""
    return [part for setting in (*QUICK, *more) for part in ("--set", setting)]


def draw_slide(path: Path, *, positive: bool, seed: int) -> None:
    """A picture of purple noise with a white margin; a positive one has a block of dark dots."""
    rng = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH, 3), 245, np.uint8)
    tissue = rng.normal((170, 90, 160), 25, (HEIGHT - 20, WIDTH - 30, 3)).clip(0, 255)
    image[10:-10, 15:-15] = tissue.astype(np.uint8)
    if positive:
        image[40:90:4, 40:120:4] = (40, 10, 60)
    Image.fromarray(image).save(path)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def slide_rows(folder: Path, n: int = 8) -> list[dict[str, object]]:
    """n slides in folder/slides, formats in turn, ids with leading zeros and a space."""
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for i in range(n):
        name = f"00{i} a"
        path = Path("slides") / f"{name}{SUFFIXES[i % 4]}"
        draw_slide(folder / path, positive=i % 2 == 1, seed=i)
        label = "tumour" if i % 2 else "normal"
        rows.append({"slide_id": name, "case_id": f"case {i // 2 * 2 + i % 2}", "label": label, "path": path})
    return rows


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of pixels: level-0 pixels as they are, two folds, three arms."""
    folder = tmp_path / "my study"
    write_csv(folder / "slides.csv", slide_rows(folder))
    (folder / "study.yaml").write_text(
        "arm: ours+fmb-oof\n"
        "patches: {um_per_px: null, size_px: 24}\n"
        "mining: {inner_folds: 2}\n"
        "evaluation: {folds: 2, arms: [ours, ours+fmb-oof, ours+fmb-oof@random]}\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def feature_study(tmp_path: Path) -> Path:
    """A study of TRIDENT features: twelve bags, two instances of a positive one are shifted."""
    folder = tmp_path / "features study"
    (folder / "feats").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i in range(12):
        features = rng.normal(size=(10 + i, 6)).astype(np.float32)
        features[: 2 * (i % 2), 0] += 6
        coords = np.stack([np.arange(10 + i) * 256, np.full(10 + i, 512)], axis=1)
        with h5py.File(folder / "feats" / f"s{i}.h5", "w") as file:
            file["features"] = features
            dataset = file.create_dataset("coords", data=coords.astype(np.int64))
            dataset.attrs["patch_size_level0"] = 256
        rows.append({"slide_id": f"s{i}", "case_id": f"c{i}", "label": i % 2})
    write_csv(folder / "slides.csv", rows)
    (folder / "study.yaml").write_text(
        "features: feats\n"
        "arm: ours\n"
        "training: {epochs: 15, lr: 0.003}\n"
        "evaluation: {folds: 3, arms: [abmil, ours, ours+instance]}\n",
        encoding="utf-8",
    )
    return folder


def coords_of(study: Path) -> dict[str, list[list[int]]]:
    """The patch coordinates in each file of `patches/`."""
    found: dict[str, list[list[int]]] = {}
    for path in visible((study / "patches").glob("*.h5")):
        with h5py.File(path) as file:
            found[path.name] = np.asarray(file["coords"]).tolist()
    return found


def slide_path(study: Path, slide_id: str) -> Path:
    """The file of a slide of the table."""
    row = next(row for row in read_csv(study / "slides.csv") if row["slide_id"] == slide_id)
    return study / row["path"]

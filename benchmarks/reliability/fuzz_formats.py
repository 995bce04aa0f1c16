"""Valid small files of each format that hardmil reads, ways to damage them, and what reads them."""

import io
import json
import random
import re
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fuzz_stores
import h5py
import numpy as np
import tifffile
import torch
from fuzz_stores import ROW
from PIL import Image

from hardmil.bags.bag_file import read_bag, read_coords
from hardmil.bags.feature_folder import read_features
from hardmil.bags.slide_table import read_slide_table
from hardmil.bags.split_files import read_splits
from hardmil.bundles.bundle import Bundle, Card, load_bundle, save_bundle
from hardmil.config.model import ModelConfig, resolve_config
from hardmil.config.patches import PatchConfig
from hardmil.config.study import StudyConfig
from hardmil.config.study_file import commented_yaml, read_study
from hardmil.evaluation.results import PredictionRow, ResultRow
from hardmil.files.csv_table import read_table
from hardmil.files.geojson import Region, read_regions, square, write_regions
from hardmil.geometry import Downsample
from hardmil.mil.network import BagClassifier
from hardmil.mining.verdicts import read_verdicts
from hardmil.slides.outlines import inside
from hardmil.slides.reader import open_slide
from hardmil.slides.tissue import segment_tissue

RNG = np.random.default_rng(0)
EDGES = (0, 1, 2**7, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
"""Numbers that programs take for something else, or that claim much memory."""
NUMBERS = (
    "9" * 5000,
    "1e999",
    "-1",
    "0",
    "NaN",
    "1_000",
    "99999999999",
    "1e-400",
    "0x10",
    "true",
    '"a"',
    "1e300",
)
TOKENS = (
    "[" * 3000,
    "{" * 300,
    '"',
    "\0",
    "&a ",
    "*a",
    "\n",
    "\ufeff",
    "'",
    "=cmd()",
    "😀",
    ",",
    ";",
    ": ",
    "null",
)


@dataclass(frozen=True)
class Format:
    """A file that is read: its name, valid contents, whether it is text, and its readers."""

    file: str
    contents: Callable[[], Sequence[bytes]]
    is_text: bool
    readers: Sequence[Callable[[Path], object]]


def damaged(content: bytes, others: Sequence[bytes], *, is_text: bool, rng: random.Random) -> bytes:
    """A content with one to six changes."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        ways = [_cut, _repeat, _splice, _bits]
        ways += [_token, _number, _number] if is_text else [_integer, _integer, _integer]
        content = rng.choice(ways)(content or b"\0", others, rng)
    return content


def _at(content: bytes, rng: random.Random) -> int:
    """A position; headers are at the beginning and at the end of most files."""
    near = min(len(content), rng.choice((64, 512, 4096, 1 << 30)))
    return rng.randrange(near) if rng.random() < 0.7 else len(content) - 1 - rng.randrange(near)


def _cut(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    start = _at(content, rng)
    return (
        content[:start] if rng.random() < 0.3 else content[:start] + content[start + rng.choice((1, 4, 40)) :]
    )


def _repeat(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    start, n = _at(content, rng), rng.choice((1, 8, 100))
    return content[:start] + content[start : start + n] * rng.choice((2, 5, 500)) + content[start + n :]


def _splice(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    start, at = _at(other, rng), _at(content, rng)
    return content[:at] + other[start : start + rng.choice((4, 60, 1000))] + content[at:]


def _bits(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 20))):
        changed[_at(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _integer(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """A number of 1 to 8 bytes that is replaced by one of `EDGES`."""
    size = rng.choice((1, 2, 4, 8))
    at = _at(content, rng)
    number = rng.choice(EDGES) & ((1 << 8 * size) - 1)
    return content[:at] + number.to_bytes(size, rng.choice(("little", "big"))) + content[at + size :]


def _number(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d[\d.]*", content))
    if not found:
        return content
    one = rng.choice(found)
    return content[: one.start()] + rng.choice(NUMBERS).encode() + content[one.end() :]


def _token(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    at = _at(content, rng)
    return content[:at] + rng.choice(TOKENS).encode() + content[at:]


def _h5() -> list[bytes]:
    features, coords = RNG.normal(size=(20, 8)).astype(np.float32), np.arange(40).reshape(20, 2) * 256
    found: list[bytes] = []
    for name, options in (
        ("features", {}),
        ("features", {"chunks": (4, 8), "compression": "gzip", "shuffle": True}),
        ("features", {"chunks": (1, 8), "maxshape": (None, 8)}),
        ("feats", {"compression": "lzf", "chunks": (5, 8)}),
    ):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file.create_dataset(name, data=features, **options)
            file.create_dataset("coords", data=coords)
            file["coords"].attrs.update({"patch_size": 256, "patch_size_level0": 512, "name": "s1"})
            file.attrs.update({"tile_size_um": 256.0, "unit": "um"})
        found.append(content.getvalue())
    return found


def _pt() -> list[bytes]:
    tensor = torch.arange(160, dtype=torch.float32).reshape(20, 8)
    kinds = (
        tensor,
        {"features": tensor},
        {"feats": tensor.to_sparse()},
        tensor.numpy(),
        tensor.to(torch.float8_e5m2),
    )
    found: list[bytes] = []
    for kind in (*kinds, torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)):
        content = io.BytesIO()
        torch.save(kind, content)
        found.append(content.getvalue())
    content = io.BytesIO()
    torch.save(tensor, content, _use_new_zipfile_serialization=False)
    return [*found, content.getvalue()]


def _rgb() -> np.ndarray:
    rgb = np.full((96, 160, 3), 240, np.uint8)
    rgb[20:70, 30:120] = (150, 60, 140)
    return rgb


def _tiff() -> list[bytes]:
    found: list[bytes] = []
    for options in (
        {"tile": (32, 32), "compression": "zlib"},
        {"tile": (32, 32), "compression": "jpeg", "photometric": "ycbcr"},
        {"rowsperstrip": 16},
        {"tile": (32, 32), "metadata": {"axes": "YXS", "PhysicalSizeX": 0.5}, "ome": True},
        {"compression": "png", "rowsperstrip": 8},
    ):
        content = io.BytesIO()
        ome = options.pop("ome", None)
        tifffile.imwrite(content, _rgb(), ome=ome, **{"photometric": "rgb", **options})
        found.append(content.getvalue())
    return found


def _png() -> list[bytes]:
    found: list[bytes] = []
    for mode in ("RGB", "RGBA", "P", "L", "1"):
        content = io.BytesIO()
        Image.fromarray(_rgb()).convert(mode).save(content, "PNG", dpi=(72, 72))
        found.append(content.getvalue())
    content = io.BytesIO()
    Image.fromarray(_rgb()).save(content, "JPEG", progressive=True)
    return [*found, content.getvalue()]


def _geojson() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        regions = [Region(square(i * 100, i * 50, 300), "tumour", {"area": 3.5}) for i in range(6)]
        write_regions(path, regions)
        content = path.read_bytes()
    features = json.loads(content)["features"]
    parts = {"type": "MultiPolygon", "coordinates": [one["geometry"]["coordinates"] for one in features]}
    return [content, json.dumps(features).encode(), json.dumps({**features[0], "geometry": parts}).encode()]


def _yaml() -> list[bytes]:
    return [
        commented_yaml(StudyConfig()).encode(),
        b"seed: 3\npositive: 0010\nmining: {n_clusters: 2, use: mb}\nevaluation:\n  arms: [ours, abmil]\n",
        b"encode: 'my.module:encoder'\npatches:\n  size_px: 224\n  um_per_px: 0.5\ntraining: {lr: 1e-4}\n",
    ]


def _csv() -> list[bytes]:
    return [
        b"slide_id,case_id,label,path,mpp\ns1,c1,tumour,a/s1.svs,0.5\ns2,c2,normal,a/s2.svs,\n" * 1,
        "slide_id;patient;label;path\r\ns1;ä;1;b.tif\r\ns2;c;0;c.tif\r\n".encode("utf-16"),
        b"slide_id,fold_0,fold_1\ns1,train,test\ns2,test,train\n",
        b"slide_id,x,y,verdict\ns1,0,1,lesion\ns1,2,3,unsure\n",
        b"train,val,test\ns1,,s2\n",
        b"slide_id,case_id,label,bag_score,prediction,op_prediction,prob_normal,prob_tumour\n"
        b"s1,c1,tumour,0.5,tumour,,0.5,0.5\n",
    ]


def _bundle() -> Path:
    torch.manual_seed(0)
    settings = {"network": {"embedding_dim": 8}, "pooling": {"kind": "gated-attention", "attention_dim": 4}}
    config = resolve_config(ModelConfig.model_validate(settings), kind="features")
    card = Card(
        **{"hardmil": "0.1.0", "fingerprint": "abc", "arm": "ours+fmb-oof", "classes": ("normal", "tumour")},
        **{"threshold": 0.25, "instances": "features", "patches": PatchConfig(size_px=24)},
        **{"training_slides": ("s1", "007"), "n_false_positive_bags": 2, "n_hard": 5},
    )
    folder = Path(tempfile.mkdtemp(prefix="fuzz-bundle-"))
    save_bundle(folder, Bundle(BagClassifier(config, instance_shape=(8,)).eval(), card))
    return folder


BUNDLE = _bundle()
WEIGHTS = next(BUNDLE.glob("content-*/model.safetensors"))


def _read_bundle(card: Path) -> object:
    (BUNDLE / "bundle.json").write_bytes(card.read_bytes())
    return load_bundle(BUNDLE, device="cpu")


def _read_weights(path: Path) -> object:
    WEIGHTS.write_bytes(path.read_bytes())
    return load_bundle(BUNDLE, device="cpu")


def _safetensors() -> list[bytes]:
    content = WEIGHTS.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["instance_shape"] = "[1000000000]"
    header["__metadata__"].pop("digest")
    text = json.dumps(header).encode()
    return [content, struct.pack("<Q", len(text)) + text + content[8 + size :]]


def _read_slide(path: Path) -> object:
    with open_slide(path) as slide:
        slide.read(slide.width_px // 2, 0, 64, 64)
        slide.thumbnail(256)
        return segment_tissue(slide, mpp=0.5)


def _read_areas(path: Path) -> object:
    return inside(read_regions(path), shape=(2048, 2048), downsample=Downsample(1.0, 1.0))


def _read_slide_table(path: Path) -> object:
    table = read_slide_table(path, labels_required=False, paths_required=False)
    for row in table.rows[:20]:
        if row.path is not None:
            _read_slide(row.path)
    return table


FORMATS = {
    "h5": Format(
        "s1.h5",
        _h5,
        False,
        [
            lambda path: read_features(path, ROW, label=1),
            lambda path: read_bag(path, case_id="c1", label=0, slide_id="s1"),
            read_coords,
        ],
    ),
    "pt": Format("s1.pt", _pt, False, [lambda path: read_features(path, ROW, label=1)]),
    "tiff": Format("s1.tif", _tiff, False, [_read_slide]),
    "png": Format("s1.png", _png, False, [_read_slide]),
    "geojson": Format("s1.geojson", _geojson, True, [_read_areas]),
    "yaml": Format("study.yaml", _yaml, True, [read_study]),
    "csv": Format(
        "s1.csv",
        _csv,
        True,
        [
            _read_slide_table,
            lambda path: read_splits(path, ["s1", "s2"]),
            lambda path: read_verdicts(path, []),
            lambda path: read_table(path, PredictionRow),
            lambda path: read_table(path, ResultRow),
        ],
    ),
    "bundle.json": Format(
        "bundle.json", lambda: [(BUNDLE / "bundle.json").read_bytes()], True, [_read_bundle]
    ),
    "safetensors": Format("model.safetensors", _safetensors, False, [_read_weights]),
    "h5ad": Format(
        "s1.h5ad", fuzz_stores.h5ad_files, False, [lambda path: read_features(path, ROW, label=1)]
    ),
    "zarr metadata": Format(
        "zarr.json", fuzz_stores.metadata_files, True, [fuzz_stores.store_reader(is_metadata=True)]
    ),
    "zarr chunks": Format(
        "chunk", fuzz_stores.chunk_files, False, [fuzz_stores.store_reader(is_metadata=False)]
    ),
    "parquet": Format("shapes.parquet", fuzz_stores.parquet_files, False, [fuzz_stores.parquet_reader]),
}

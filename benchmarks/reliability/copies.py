"""How well bags with the same content are found: one slide under two ids, encoded again.

    python benchmarks/reliability/copies.py --data DIR --output DIR   # encodes once, then takes seconds
    python benchmarks/reliability/copies.py --table                  # prints the table of docs/reliability.md

265 bags: the fields of GlaS (DIR/glas) and of the colon set (DIR/CRCHistoPhenotypes_2016_04_28), each cut
into patches of 112 px, embedded by efficientnet-lite0. For each way of writing a bag again, copies of 40 bags
are added to them. A hit is a copy that is found; a false alarm is any other pair. Fields of one patient, and
adjacent fields, are in the set, so it has hard cases of different bags. Rows: docs/reliability/copies.csv.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hardmil.bags.bag import Bag
from hardmil.checks.copies import bag_signature, similar_bags
from hardmil.encoders.open_encoder import open_encoder
from hardmil.files.csv_table import read_table, write_table

ROWS = Path(__file__).parents[2] / "docs" / "reliability" / "copies.csv"
SIZE_PX, N_COPIES = 112, 40
SHIFTS_PX = (0, 8, 28)
SPEED = ((500, 1000, 1024), (2000, 200, 512))
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _bfloat16(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).to(torch.bfloat16).float().numpy()


def _part(share: float) -> Change:
    return lambda x, rng: rng.permutation(x)[: max(1, round(share * len(x)))]


CHANGES: dict[str, Change] = {
    "the same": lambda x, rng: x,
    "another order": lambda x, rng: rng.permutation(x),
    "float16": lambda x, rng: x.astype(np.float16),
    "bfloat16, another order": lambda x, rng: _bfloat16(rng.permutation(x)),
    "8 of 10 patches": _part(0.8),
    "half of the patches": _part(0.5),
    "a quarter of the patches": _part(0.25),
}


@dataclass(frozen=True)
class CopyRow:
    """One way of writing bags again: copies, hits, and false alarms among all pairs."""

    change: str
    copies: int
    hits: int
    false_alarms: int
    pairs: int


def features(data: Path, *, output: Path) -> dict[str, np.ndarray]:
    """Embeddings by `<name>|<shift of the grid in px>`; kept in the folder."""
    path = output / "features.npz"
    if not path.exists():
        encoder = open_encoder("efficientnet-lite0", device="cpu")
        fields = [*(data / "glas").glob("*.jpg")]
        fields += (data / "CRCHistoPhenotypes_2016_04_28" / "Classification").glob("*/*.bmp")
        found = {
            f"{field.stem}|{shift}": encoder.embed(_patches(field, shift=shift)).astype(np.float32)
            for field in sorted(fields)
            for shift in SHIFTS_PX
        }
        output.mkdir(parents=True, exist_ok=True)
        np.savez(path, **found)
    with np.load(path) as file:
        return dict(file)


def _patches(path: Path, *, shift: int) -> np.ndarray:
    rgb = np.asarray(Image.open(path).convert("RGB"))
    height, width, _ = rgb.shape
    return np.stack(
        [
            rgb[y : y + SIZE_PX, x : x + SIZE_PX]
            for y in range(shift, height - SIZE_PX + 1, SIZE_PX)
            for x in range(shift, width - SIZE_PX + 1, SIZE_PX)
        ]
    )


def _bag(name: str, instances: np.ndarray) -> Bag:
    return Bag(name, name, 0, np.ascontiguousarray(instances), np.zeros((len(instances), 2), np.int64), 0)


def run(known: dict[str, np.ndarray]) -> list[CopyRow]:
    """One row for each way of writing bags again, and for the grids that are shifted."""
    names = sorted(key.removesuffix("|0") for key in known if key.endswith("|0"))
    rng = np.random.default_rng(0)
    originals = [_bag(name, known[f"{name}|0"]) for name in names]
    rows = [_row("no copies", originals, {})]
    for change, make in CHANGES.items():
        chosen = rng.choice(len(names), N_COPIES, replace=False)
        rows.append(
            _row(change, originals, {int(i): _bag("copy", make(originals[i].instances, rng)) for i in chosen})
        )
    for shift in SHIFTS_PX[1:]:
        chosen = rng.choice(len(names), N_COPIES, replace=False)
        rows.append(
            _row(
                f"grid shifted by {shift / SIZE_PX:.0%} of a patch",
                originals,
                {int(i): _bag("copy", known[f"{names[i]}|{shift}"]) for i in chosen},
            )
        )
    return rows


def _row(change: str, originals: Sequence[Bag], copies: dict[int, Bag]) -> CopyRow:
    bags = [*originals, *copies.values()]
    wanted = {(i, len(originals) + number) for number, i in enumerate(copies)}
    found = {(one.first, one.second) for one in similar_bags([bag_signature(bag) for bag in bags])}
    n_pairs = len(bags) * (len(bags) - 1) // 2
    return CopyRow(change, len(copies), len(found & wanted), len(found - wanted), n_pairs)


def table(rows: Sequence[CopyRow]) -> list[str]:
    """Hits and false alarms for each way of writing a bag again."""
    return [
        "| the second bag is | found | false alarms |",
        "|---|---|---|",
        *(
            f"| {row.change} | {f'{row.hits} of {row.copies}' if row.copies else ''} | {row.false_alarms} of "
            f"{row.pairs:,} pairs |"
            for row in rows
        ),
    ]


def speed() -> list[str]:
    """Seconds for signatures and comparison of random bags."""
    lines: list[str] = []
    for n_bags, n_patches, dim in SPEED:
        rng = np.random.default_rng(0)
        started = time.perf_counter()
        spent = 0.0
        signatures = []
        for _ in range(n_bags):
            bag = _bag("s", rng.normal(size=(n_patches, dim)).astype(np.float32))
            before = time.perf_counter()
            signatures.append(bag_signature(bag))
            spent += time.perf_counter() - before
        started = time.perf_counter()
        similar_bags(signatures)
        compared = time.perf_counter() - started
        size = f"{n_bags} bags of {n_patches} x {dim}"
        lines.append(f"{size}: {spent:.1f} s for signatures, {compared:.1f} s for the comparison")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--output", type=Path, default=Path("copies"), help="folder of the embeddings")
    parser.add_argument("--speed", action="store_true", help="measure the speed on random bags")
    parser.add_argument("--table", action="store_true", help="print the table of the kept rows")
    options = parser.parse_args()
    if options.speed:
        print("\n".join(speed()))
        return
    if not options.table:
        write_table(ROWS, run(features(options.data, output=options.output)), row=CopyRow)
    print("\n".join(table(read_table(ROWS, CopyRow))))


if __name__ == "__main__":
    main()

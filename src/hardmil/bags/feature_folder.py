"""Everyone else's feature files: TRIDENT's .h5, CLAM's h5_files and pt_files, STAMP's .h5."""

import codecs
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from hardmil.bags.bag import Bag, as_instances, read_bag
from hardmil.bags.provenance import made_in_common
from hardmil.bags.slide_table import Manifest, SlideRow
from hardmil.bags.stamp import is_stamp, stamp_bag
from hardmil.errors import BagError, EmptyBagError, FeatureFileError, SlideError
from hardmil.files.h5 import open_h5
from hardmil.jobs.run import Failure, run_jobs
from hardmil.slides.reader import open_slide

# Where a slide's file may lie below the folder: an .h5 first, as only it says where the patches are.
_PLACES = ("{}.h5", "h5_files/{}.h5", "{}.pt", "pt_files/{}.pt")
# What torch, its unpickler and zip raise at files that are none of theirs, or were cut or changed.
_DAMAGE = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(MemoryError, OverflowError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)
_FEATURE_KEYS = ("features", "feats", "feat", "embeddings")


@dataclass(frozen=True)
class FoundBags:
    """The bags of a table's slides by slide_id, the slides whose files hold no instance, the failures."""

    bags: dict[str, Bag]
    empty: tuple[str, ...]
    failures: Sequence[Failure]


def read_feature_folder(folder: Path, manifest: Manifest, *, quiet: bool = False) -> FoundBags:
    """The bags of all slides of a table; a slide whose file fails is among the failures.

    Raises:
        BagError: If two bags differ in kind or length of their instances, in encoder or in patch size.
    """

    def read(row: SlideRow) -> Bag:
        path = find_feature_file(folder, slide_id=row.slide_id)
        return read_features(path, row, label=manifest.class_index(row))

    return read_bags(read, manifest.rows, label="reading features", quiet=quiet)


def read_bags(
    read: Callable[[SlideRow], Bag], rows: Sequence[SlideRow], *, label: str, quiet: bool
) -> FoundBags:
    """What `read` gives for each slide; one whose bag is empty is set apart, and is no failure.

    Raises:
        BagError: If two bags differ in kind or length of their instances, in encoder or in patch size.
    """

    def read_or_none(row: SlideRow) -> Bag | None:
        try:
            return read(row)
        except EmptyBagError:
            return None

    done = run_jobs(read_or_none, rows, name=lambda row: row.slide_id, label=label, quiet=quiet)
    bags = {name: bag for name, bag in done.results.items() if bag is not None}
    check_same_instances(bags.values())
    return FoundBags(bags, tuple(name for name in done.results if name not in bags), done.failures)


def notes_on(bags: Iterable[Bag], *, empty: Sequence[str] = ()) -> list[str]:
    """What a user should know of bags that were read: slides without a patch, or without known places."""
    notes = [f"note: no patch in the bag of {_named(empty)}: left out"] if empty else []
    return notes + note_placeless([bag.slide_id for bag in bags if bag.size_level0_px == 0])


def note_placeless(slide_ids: Sequence[str]) -> list[str]:
    """What a user should know of slides without known places; nothing if there are none."""
    if not slide_ids:
        return []
    return [
        f"note: where the patches lie is not known of {_named(slide_ids)}, so no heat map shows them: a "
        ".pt holds no places, and STAMP's need the slide's mpp, which the column mpp can give"
    ]


def _named(slide_ids: Sequence[str]) -> str:
    shown = ", ".join(slide_ids[:5])
    return f"{shown} and {len(slide_ids) - 5} more" if len(slide_ids) > 5 else shown


def find_feature_file(folder: Path, *, slide_id: str) -> Path:
    """The file of a slide in a folder as TRIDENT or CLAM leave it; an .h5 before a .pt.

    Raises:
        FeatureFileError: If there is none.
    """
    names = [place.format(slide_id) for place in _PLACES]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FeatureFileError(
        f"slide {slide_id}: no feature file in {folder}; expected {', '.join(names[:-1])} or {names[-1]}; "
        "write it, or correct the slide_id"
    )


def read_features(path: Path, row: SlideRow, *, label: int) -> Bag:
    """The bag of a slide in a feature file.

    An .h5 without patch size (CLAM's features) takes the step of its grid for it. A .pt holds no places:
    its bag has coords of 0 and a size of 0, which says that they are not known; so has STAMP's, in
    micrometres, where neither the row nor the slide says how many a pixel has.

    Raises:
        FeatureFileError: If the file is damaged or in no layout we know.
        EmptyBagError: If it holds no instance.
        BagError: If its instances are no finite features.
    """
    if path.suffix == ".pt":
        features = as_instances(_read_pt(path))
        coords = np.zeros((len(features), 2), dtype=np.int64)
        return Bag(row.slide_id, row.case_id, label, features, coords, size_level0_px=0)
    with open_h5(path) as file:
        if is_stamp(file):
            mpp = _mpp_of(row)
            return stamp_bag(file, slide_id=row.slide_id, case_id=row.case_id, label=label, mpp=mpp)
    bag = read_bag(path, slide_id=row.slide_id, case_id=row.case_id, label=label)
    return bag if bag.size_level0_px else replace(bag, size_level0_px=grid_step(bag.coords))


def _mpp_of(row: SlideRow) -> float | None:
    """What the table says, or else the slide; None where neither does, or the slide cannot be opened."""
    if row.mpp is not None or row.path is None or not row.path.is_file():
        return row.mpp
    try:
        with open_slide(row.path) as slide:
            return slide.mpp
    except SlideError:
        return None


def check_same_instances(bags: Iterable[Bag]) -> None:
    """Check that bags of one study hold instances of one kind and shape, made alike as far as is known.

    Raises:
        BagError: If two do not; both slides are named, and what they hold.
    """
    first: Bag | None = None
    sayers: list[Bag] = []
    for bag in bags:
        first = first or bag
        for other in sayers:
            found = bag.made.difference(other.made)
            if found is not None:
                raise BagError(
                    f"slide {bag.slide_id} has {found[0]}, slide {other.slide_id} has {found[1]}; expected "
                    "the same in all; write the files of one of them again, or leave it out"
                )
        known = made_in_common(one.made for one in sayers)
        if bag.made.joined(known) != known:
            sayers.append(bag)
        if _what(bag) != _what(first):
            raise BagError(
                f"slide {bag.slide_id} has {_what(bag)}, slide {first.slide_id} has {_what(first)}; expected "
                "the same in all; write the files of one of them again, with the same encoder and size"
            )


def grid_step(coords: Int64[np.ndarray, "patch 2"]) -> int:
    """The most common distance between neighbours in a row of patches; 0 if no row has two.

    The patch size of a grid without overlap. CLAM lays one grid a piece of tissue, so the smallest
    distance would be that between two grids.
    """
    ordered = coords[np.lexsort((coords[:, 0], coords[:, 1]))]
    steps = np.diff(ordered, axis=0)
    in_row = steps[(steps[:, 1] == 0) & (steps[:, 0] > 0), 0]
    if len(in_row) == 0:
        return 0
    values, counts = np.unique(in_row, return_counts=True)
    return int(values[np.argmax(counts)])


def _read_pt(path: Path) -> np.ndarray:
    """The features in a tensor, an array, or a dict of either; opened without running code of the file."""
    import torch

    if not path.is_file():
        raise FeatureFileError(f"{path}: no such file; expected one saved tensor; write it")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_globals()):
            # Of pickle protocols; what cannot be read is an error below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureFileError(
            f"{path}: cannot be read ({reason}); expected one saved tensor; write the file again"
        ) from error
    found = (
        next((content[key] for key in _FEATURE_KEYS if key in content), None)
        if _is_dict(content)
        else content
    )
    if isinstance(found, torch.Tensor):
        wide = found.float() if found.dtype == torch.bfloat16 else found
        return wide.detach().numpy()
    if isinstance(found, np.ndarray):
        return found
    held = f"a dict of {', '.join(map(str, content))}" if _is_dict(content) else type(content).__name__
    raise FeatureFileError(
        f"{path}: holds {held}; expected a tensor, or a dict with one under {', '.join(_FEATURE_KEYS)}"
    )


def _numpy_globals() -> list[Any]:
    """What weights-only loading must know to build an array: TRIDENT saves arrays, not tensors, as .pt."""
    rebuild = np.zeros(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float16", "float32", "float64")]
    # The module was numpy.core before numpy 2, and files keep the name of their writer's numpy.
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*names, np.ndarray, np.dtype, *dtypes, codecs.encode]


def _is_dict(content: object) -> bool:
    return isinstance(content, dict)


def _what(bag: Bag) -> str:
    shape = bag.instances.shape
    return f"features of {shape[1]}" if bag.kind == "features" else f"patches of {shape[2]} x {shape[1]} px"

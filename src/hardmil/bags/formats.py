"""Everyone else's feature files: TRIDENT's .h5, CLAM's h5_files and pt_files."""

import codecs
import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from hardmil.bags.bag import Bag, as_instances, read_bag
from hardmil.bags.manifest import Manifest, SlideRow
from hardmil.errors import BagError, FeatureFileError
from hardmil.jobs import JobResults, run_jobs

# Where a slide's file may lie below the folder: an .h5 first, as only it says where the patches are.
_PLACES = ("{}.h5", "h5_files/{}.h5", "{}.pt", "pt_files/{}.pt")
_FEATURE_KEYS = ("features", "feats", "feat", "embeddings")


def read_feature_folder(folder: Path, manifest: Manifest, *, quiet: bool = False) -> JobResults[Bag]:
    """The bags of all slides of a table, by slide_id; a slide whose file fails is among the failures.

    Raises:
        BagError: If two bags differ in kind or length of their instances.
    """

    def read(row: SlideRow) -> Bag:
        path = find_feature_file(folder, slide_id=row.slide_id)
        label = manifest.class_index(row)
        return read_features(path, slide_id=row.slide_id, case_id=row.case_id, label=label)

    done = run_jobs(read, manifest.rows, name=_slide_id, label="reading features", quiet=quiet)
    check_same_instances(done.results.values())
    return done


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


def read_features(path: Path, *, slide_id: str, case_id: str, label: int) -> Bag:
    """The bag in a feature file.

    An .h5 without patch size (CLAM's features) takes the step of its grid for it. A .pt holds no places:
    its bag has coords of 0 and a size of 0, which says that they are not known.

    Raises:
        FeatureFileError: If the file is damaged or in no layout we know.
        EmptyBagError: If it holds no instance.
        BagError: If its instances are no finite features.
    """
    if path.suffix == ".pt":
        features = as_instances(_read_pt(path))
        coords = np.zeros((len(features), 2), dtype=np.int64)
        return Bag(slide_id, case_id, label, features, coords, size_level0_px=0)
    bag = read_bag(path, slide_id=slide_id, case_id=case_id, label=label)
    return bag if bag.size_level0_px else replace(bag, size_level0_px=grid_step(bag.coords))


def check_same_instances(bags: Iterable[Bag]) -> None:
    """Check that bags of one study hold instances of one kind and shape.

    Raises:
        BagError: If two do not; both slides are named.
    """
    first: Bag | None = None
    for bag in bags:
        first = first or bag
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

    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
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


def _slide_id(row: SlideRow) -> str:
    return row.slide_id

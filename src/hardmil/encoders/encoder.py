"""Patches -> embeddings of a frozen encoder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hardmil.bags.bag import Bag
from hardmil.bags.provenance import Made
from hardmil.config.known_encoders import KNOWN, is_encoder_file, known_encoder, split_place
from hardmil.config.study import PIXELS, CutConfig
from hardmil.encoders.file_card import find_file
from hardmil.errors import BagError, ConfigError
from hardmil.slides.reading import resize_patches

if TYPE_CHECKING:
    from hardmil.encoders.torch_network import Half

Patches = UInt8[np.ndarray, "patch size size 3"]
OWN_BATCH = 64
PHIKON_V2 = ("phikon-v2", "hf-hub:owkin/phikon-v2")


@runtime_checkable
class PatchEncoder(Protocol):
    """A frozen network from pixels to one vector a patch."""

    @property
    def name(self) -> str:
        """What files that hold its embeddings say of them: which encoder, and which weights of it."""
        ...

    @property
    def batch_size(self) -> int:
        """How many patches at once it is fastest with."""
        ...

    @property
    def input_px(self) -> int | None:
        """Edge that it resizes a patch to; None: as it was cut."""
        ...

    @property
    def trained_px(self) -> int | None:
        """Edge of the patches it was trained on; None: not known, or any."""
        ...

    @property
    def um_per_px(self) -> float | None:
        """Resolution it was trained at; None: not known."""
        ...

    def embed(self, patches: Patches) -> np.ndarray:
        """One vector a patch, float (patch, dim), in their order; `checked_embeddings` holds it to that."""
        ...


def open_encoder(
    name: str,
    *,
    device: str = "cpu",
    half: "Half | None" = None,
    input_px: int | None = None,
    folders: tuple[Path, ...] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> PatchEncoder:
    """The encoder of this name; docs/encoders.md lists what there is.

    Args:
        name: efficientnet-lite0; a pathology encoder such as uni, or uni@FOLDER; timm:NAME[@FILE];
            hf-hub:OWNER/NAME; local-dir:FOLDER; a file, .onnx, .pt, .ts or .pt2; or "module:callable": your
            own, from uint8 patches (n, h, w, 3) to (n, dim).
        device: Where it runs; your own runs where it likes.
        half: Arithmetic of autocast for networks that come as code; files run in their own.
        input_px: Edge that patches are resized to first; None: what it was trained on, or as they are.
        folders: Where a relative path may start; the working folder by default.
        tell: Takes what the user should read before a download.

    Raises:
        ConfigError: If there is no such encoder, or what it needs is not installed or not to be had.
    """
    plain, place = split_place(name)
    if plain.lower() in PHIKON_V2:
        raise ConfigError(
            f"encode: {name}: a model of transformers, which timm cannot load; docs/encoders.md has the few "
            'lines that make it an encoder of your own, "module:callable"'
        )
    match name.partition(":"):
        case ("efficientnet-lite0", "", _):
            from hardmil.encoders.efficientnet import open_efficientnet_lite0

            return open_efficientnet_lite0(device=device, half=half, input_px=input_px)
        case ("timm" | "hf-hub" | "local-dir", ":", _):
            return _through_timm(name, place, device, half, input_px, folders, tell)
        case _ if known_encoder(plain) is not None:
            return _through_timm(name, place, device, half, input_px, folders, tell)
        case _ if is_encoder_file(name):
            return _of_file(find_file(name, folders=folders, what=name), device=device, input_px=input_px)
        case (module, ":", attribute):
            return _OwnEncoder(name, _imported(name, module, attribute), input_px)
        case _:
            raise ConfigError(
                f"encode: {name}: no such encoder; expected pixels, efficientnet-lite0, {', '.join(KNOWN)}, "
                "timm:NAME, hf-hub:OWNER/NAME, a file (.onnx, .pt, .ts, .pt2), or your own as "
                '"module:callable"'
            )


def _through_timm(
    name: str,
    place: str | None,
    device: str,
    half: "Half | None",
    input_px: int | None,
    folders: tuple[Path, ...],
    tell: Callable[[str], None],
) -> PatchEncoder:
    from hardmil.encoders.timm_hub import open_timm

    if name.startswith("local-dir:"):
        place = name.removeprefix("local-dir:")
    found = find_file(place, folders=folders, what=name) if place else None
    return open_timm(name, place=found, device=device, half=half, input_px=input_px, tell=tell)


def _of_file(path: Path, *, device: str, input_px: int | None) -> PatchEncoder:
    if path.suffix.lower() == ".onnx":
        from hardmil.encoders.onnx_file import open_onnx

        return open_onnx(path, device=device, input_px=input_px)
    from hardmil.encoders.torch_file import open_torch_file

    return open_torch_file(path, device=device, input_px=input_px)


def encoder_notes(config: CutConfig, encoder: PatchEncoder) -> list[str]:
    """Where patches as they are cut are not what the encoder was trained on; nothing where they are."""
    if config.encode == PIXELS:
        return []
    patches, name = config.patches, encoder.name
    shown_px = encoder.input_px or patches.size_px
    notes: list[str] = []
    if encoder.um_per_px is not None and patches.um_per_px is None:
        notes.append(
            f"note: {name} was trained at {encoder.um_per_px} um/px, but patches.um_per_px is null: what it "
            f"sees differs from scanner to scanner; set patches.um_per_px: {encoder.um_per_px}"
        )
    elif encoder.um_per_px is not None and patches.um_per_px is not None:
        seen = patches.um_per_px * patches.size_px / shown_px
        if abs(seen / encoder.um_per_px - 1) > 0.01:
            notes.append(
                f"note: {name} was trained at {encoder.um_per_px} um/px, but sees {seen:.3g}: patches of "
                f"{patches.size_px} px at {patches.um_per_px} um/px, shown to it at {shown_px} px"
            )
    if encoder.trained_px is not None and shown_px != encoder.trained_px:
        notes.append(
            f"note: {name} was trained on patches of {encoder.trained_px} px, but is shown {shown_px} px; "
            "leave encode_px out"
        )
    elif encoder.trained_px is not None and patches.size_px != shown_px:
        notes.append(
            f"note: patches of {patches.size_px} px are resized to the {shown_px} px that {name} takes; "
            f"patches.size_px: {shown_px} needs no resizing"
        )
    return notes


def encoded(bag: Bag, *, encoder: PatchEncoder) -> Bag:
    """The bag with embeddings, float16, in the place of its pixels.

    Raises:
        BagError: If one is not finite, not one came back for each patch, or all are the same though the
            patches are not.
    """
    embeddings = checked_embeddings(bag.instances, encoder=encoder, slide_id=bag.slide_id)
    if is_constant(embeddings) and not is_constant(bag.instances):
        raise constant_error(encoder, slide_id=bag.slide_id, n_patches=len(bag))
    return replace(bag, instances=embeddings, made=Made(encoder.name))


def checked_embeddings(patches: Patches, *, encoder: PatchEncoder, slide_id: str) -> np.ndarray:
    """The patches' embeddings as float16 (patch, dim).

    Raises:
        BagError: If one is not finite, or not one came back for each patch; the slide is named.
    """
    return as_stored(encoder.embed(patches), len(patches), encoder=encoder, slide_id=slide_id)


def as_stored(found: np.ndarray, n_patches: int, *, encoder: PatchEncoder, slide_id: str) -> np.ndarray:
    """What an encoder gave for so many patches of a slide, as float16 (patch, dim).

    Raises:
        BagError: If one is not finite, or not one came back for each patch.
    """
    if found.ndim != 2 or len(found) != n_patches or found.shape[1] == 0:
        raise BagError(
            f"slide {slide_id}: encoder {encoder.name} gave {found.shape} for {n_patches} patches; "
            "expected one vector each"
        )
    with np.errstate(over="ignore"):
        stored = found.astype(np.float16)
    broken = int(np.sum(~np.isfinite(stored).all(axis=1)))
    if broken:
        raise BagError(
            f"slide {slide_id}: encoder {encoder.name} gave NaN, infinite or too large features (above "
            f"65,504) for {broken} of {n_patches} patches; expected numbers; look at its weights"
        )
    return stored


def is_constant(rows: np.ndarray) -> bool:
    """Whether all rows are the same."""
    return bool((rows == rows[:1]).all())


def constant_error(encoder: PatchEncoder, *, slide_id: str, n_patches: int) -> BagError:
    """All patches of a slide came out alike."""
    return BagError(
        f"slide {slide_id}: encoder {encoder.name} gave the same vector for all {n_patches} patches, though "
        "they differ; expected vectors that tell them apart; look at its weights and its normalisation"
    )


@dataclass(frozen=True, eq=False)
class _OwnEncoder:
    """A user's own callable."""

    name: str
    call: Callable[[np.ndarray], object]
    input_px: int | None
    batch_size: int = OWN_BATCH
    trained_px: int | None = None
    um_per_px: float | None = None

    def embed(self, patches: Patches) -> np.ndarray:
        """What the callable gives, as float32; `as_stored` checks its shape."""
        return np.asarray(self.call(resize_patches(patches, size_px=self.input_px)), dtype=np.float32)


def _imported(name: str, module: str, attribute: str) -> Callable[[np.ndarray], object]:
    try:
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"encode: {name}: {error}; expected a module that Python can import and a callable in it"
        ) from error
    if not callable(found):
        raise ConfigError(f"encode: {name}: {attribute} is a {type(found).__name__}, expected a callable")
    return found

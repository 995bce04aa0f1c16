"""Score new slides, and their cases, with a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.bags.bag import Bag
from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.slide_table import SlideRow, read_slide_table
from hardmil.bundles.bundle import Bundle
from hardmil.config.study import InstanceConfig
from hardmil.encoders.encoder import PatchEncoder
from hardmil.encoders.open_encoder import encoder_of
from hardmil.errors import ConfigError, TableError
from hardmil.preprocessing.instances import extract_bag


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """What is to be predicted."""

    rows: tuple[SlideRow, ...]
    labels: dict[str, int]
    features: Path | None
    mpp: float | None
    encoder: PatchEncoder | None = None


def prediction_request(
    bundle: Bundle,
    *,
    slides: Sequence[Path],
    table: Path | None,
    features: Path | None,
    mpp: float | None,
) -> PredictionRequest:
    if bundle.instance_config is None and features is None:
        raise ConfigError(
            "this bundle was trained on features of an encoder; give the folder of the new slides' features: "
            "--features DIR, with --slides table.csv or slide ids"
        )
    if bundle.instance_config is not None and features is not None:
        raise ConfigError(
            f"this bundle makes its instances of slides ({bundle.instance_config.encode}); give slides instead of "
            "--features"
        )
    if bool(slides) == (table is not None):
        raise ConfigError("expected either slides or --slides table.csv; give one of the two")
    if mpp is not None and mpp <= 0:
        raise ConfigError(f"--mpp {mpp}: expected micrometres per pixel, above 0, such as 0.5")
    if table is None:
        return PredictionRequest(_rows_of(slides, are_ids=features is not None), {}, features, mpp)
    positive = bundle.card.classes[1]
    slide_table = read_slide_table(
        table, positive=None, labels_required=False, paths_required=features is None
    )
    labels = {row.slide_id: int(row.label == positive) for row in slide_table.rows if row.label is not None}
    unknown = {row.label for row in slide_table.rows} - {None, *bundle.card.classes}
    if unknown:
        raise TableError(
            f"{table}: label {sorted(map(str, unknown))[0]!r}; the bundle knows "
            f"{bundle.card.classes[0]!r} and {positive!r}; correct the table, or leave its labels empty"
        )
    return PredictionRequest(slide_table.rows, labels, features, mpp)


def bundle_encoder(bundle: Bundle, cut: InstanceConfig, folder: Path, *, device: str) -> PatchEncoder | None:
    """The encoder of a bundle, whose file may lie in the bundle, beside it, or in the working folder.

    Raises:
        ConfigError: If it is not to be had, or has other weights than the one the bundle was trained on.
    """
    precision = bundle.network.config.training.precision
    folders = (folder, folder.parent, Path())
    encoder = encoder_of(cut, device=device, precision=precision, folders=folders)
    wanted = bundle.card.encoder
    if encoder is not None and wanted is not None and encoder.name != wanted:
        raise ConfigError(
            f"{folder}: was trained on embeddings of {wanted}, but {cut.encode} is {encoder.name} here; "
            "expected the same weights; bring that file or version, or train the bundle again"
        )
    return encoder


def _rows_of(slides: Sequence[Path], *, are_ids: bool) -> tuple[SlideRow, ...]:
    """A row a file; its name without suffix is its id. With features they are ids, and dots stay."""
    stems = [path.name if are_ids else path.stem for path in slides]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ConfigError(f"two slides are named {twice[0]}; give them ids in a table: --slides table.csv")
    return tuple(SlideRow(stem, stem, None, path, None) for stem, path in zip(stems, slides, strict=True))


def prediction_bag(row: SlideRow, *, bundle: Bundle, asked: PredictionRequest) -> Bag:
    label = asked.labels.get(row.slide_id, -1)
    if asked.features is not None:
        path = find_feature_file(asked.features, slide_id=row.slide_id)
        return read_features(path, row, label=label)
    if bundle.card.patches is None:
        raise ConfigError("this bundle does not say how patches are cut; train it again")
    return extract_bag(row, config=bundle.card.patches, label=label, mpp=asked.mpp, encoder=asked.encoder)

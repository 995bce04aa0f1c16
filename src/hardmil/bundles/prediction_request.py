"""What is to be predicted: slides, or feature files, and the labels that a table gives them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.bags.dicom_series import check_one_row_a_series
from hardmil.bags.slide_table import SlideRow, known_labels, read_slide_table
from hardmil.bundles.bundle import Bundle, Card
from hardmil.bundles.tissue_settings import with_tissue_settings
from hardmil.config.patches import PatchConfig, implausible_mpp, is_plausible_mpp
from hardmil.errors import ConfigError, TableError
from hardmil.files.slide_stem import slide_stem


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """What is to be predicted, and from what: slides, or feature files in the folder `features`.

    `patches` are the settings of the patches of slides, None where a bundle does not have them.
    """

    rows: tuple[SlideRow, ...]
    labels: dict[str, int]
    features: Path | None
    mpp: float | None
    patches: PatchConfig | None = None


def make_request(
    bundle: Bundle,
    *,
    slides: Sequence[Path],
    table: Path | None,
    features: Path | None,
    mpp: float | None,
    overrides: Sequence[str] = (),
) -> PredictionRequest:
    """What is to be predicted, as `predict` takes it.

    Raises:
        ConfigError: If there is nothing to predict, or the bundle cannot take what is given.
        TableError: If the table of slides cannot be used.
    """
    patches = bundle.card.patches and with_tissue_settings(bundle.card.patches, overrides)
    config = bundle.instance_config
    if config is None and features is None:
        raise ConfigError(
            "this bundle was trained on features of an encoder; give the folder of the new slides' features: "
            "--features DIR, with --slides table.csv or slide ids"
        )
    if config is not None and features is not None:
        raise ConfigError(
            f"this bundle makes its instances from slides ({config.encode}); give slides instead of "
            "--features"
        )
    if bool(slides) == (table is not None):
        raise ConfigError("expected either slides or --slides table.csv; give one of the two")
    if mpp is not None and not is_plausible_mpp(mpp):
        raise ConfigError(f"--mpp: found {implausible_mpp(mpp)}")
    if table is None:
        rows = rows_of_slides(slides, are_ids=features is not None)
        return PredictionRequest(rows, {}, features, mpp, patches)
    rows, labels = _labelled_rows(table, card=bundle.card, paths_required=features is None)
    return PredictionRequest(rows, labels, features, mpp, patches)


def _labelled_rows(
    table: Path, *, card: Card, paths_required: bool
) -> tuple[tuple[SlideRow, ...], dict[str, int]]:
    """The slides of a table, and the labels of those that have one.

    Raises:
        TableError: If it cannot be used, or a label is not one of the bundle's classes.
    """
    slide_table = read_slide_table(
        table,
        classes=None if card.task.is_binary else _checked_classes(table, card=card),
        multi_label=card.task.multi_label,
        cases="column-or-slide",
        labels_required=False,
        paths_required=paths_required,
    )
    if card.task.multi_label:
        known = {row.slide_id: slide_table.class_index(row) for row in slide_table.rows}
        return slide_table.rows, known
    labels = {row.slide_id: row.label for row in slide_table.rows if row.label is not None}
    _check_labels(table, labels.values(), card=card)
    return slide_table.rows, {name: card.classes.index(label) for name, label in labels.items()}


def _checked_classes(table: Path, *, card: Card) -> tuple[str, ...]:
    """The classes of the bundle, if the labels of the table are some of them."""
    if card.task.multi_label:
        return card.classes
    _check_labels(table, known_labels(table), card=card)
    return card.classes


def _check_labels(table: Path, labels: Iterable[str], *, card: Card) -> None:
    unknown = sorted(set(labels) - set(card.classes))
    if unknown:
        *others, last = map(repr, card.classes)
        raise TableError(
            f"{table}: label {unknown[0]!r}; the bundle knows {', '.join(others)} and {last}; correct the "
            "table, or leave its labels empty"
        )


def rows_of_slides(slides: Sequence[Path], *, are_ids: bool) -> tuple[SlideRow, ...]:
    """One row for each slide; its id is its name without suffix. Ids, as with features, keep their dots."""
    stems = [path.name if are_ids else slide_stem(path) for path in slides]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ConfigError(f"two slides are named {twice[0]}; give them ids in a table: --slides table.csv")
    if not are_ids:
        check_one_row_a_series(slides, where="the slides to predict")
    return tuple(SlideRow(stem, stem, None, path, None) for stem, path in zip(stems, slides, strict=True))

"""The options of `hardmil predict`; a file of its own, because `cli.py` is long."""

from pathlib import Path
from typing import Annotated

import typer

from hardmil.commands.answer import finish
from hardmil.commands.options import (
    CaseScore,
    Deidentify,
    DeviceName,
    HeatmapOf,
    HeatmapScale,
    Json,
    PredictionFolder,
    Quiet,
    ShownClass,
    TissueSet,
    TrustEncoder,
)


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that train wrote.")],
    slides: Annotated[list[Path] | None, typer.Argument(metavar="SLIDE...", help="Slide files.")] = None,
    table: Annotated[
        Path | None, typer.Option("--slides", help="A table of slides instead of slide files.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of TRIDENT, CLAM, STAMP or AnnData features.")
    ] = None,
    output: PredictionFolder = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel of slides that do not state it.")
    ] = None,
    case_score: Annotated[
        CaseScore,
        typer.Option(
            help="Score of a case with several slides: all patches as one bag, or max or mean of scores."
        ),
    ] = "pooled",
    heatmaps: Annotated[bool, typer.Option(help="Draw a heat map of each slide.")] = True,
    of_class: ShownClass = None,
    heatmap_of: Annotated[HeatmapOf, typer.Option(help="What heat maps show.")] = "attention",
    heatmap_scale: Annotated[HeatmapScale, typer.Option(help="By rank, or raw values.")] = "rank",
    ome_tiff: Annotated[
        bool, typer.Option(help="Write heat maps as OME-TIFF too, to overlay on the slide.")
    ] = False,
    write_obs: Annotated[
        bool,
        typer.Option("--write-obs", help="Add attention to the AnnData tables of --features, as columns."),
    ] = False,
    overrides: TissueSet = None,
    trust_encoder: TrustEncoder = False,
    deidentify: Deidentify = False,
    device: DeviceName = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score new slides; write heat maps and GeoJSON.

    If the table of slides has labels, also print metrics.
    """
    from hardmil.bundles.slide_files import HeatmapOptions
    from hardmil.commands.predict import predict as run

    outcome = run(
        bundle,
        slides=slides or (),
        table=table,
        features=features,
        output=output,
        mpp=mpp,
        case_score=case_score,
        heatmaps=HeatmapOptions(heatmap_of, heatmap_scale, png=heatmaps, tiff=ome_tiff, of_class=of_class),
        overrides=overrides or (),
        trust_encoder=trust_encoder,
        write_obs=write_obs,
        deidentify=deidentify,
        device=device,
        quiet=quiet,
    )
    finish(outcome, as_json=as_json)

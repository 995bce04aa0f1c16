"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

StudyPath = Annotated[
    Path, typer.Argument(metavar="[STUDY]", help="A study.yaml, or its folder; by default this folder.")
]
HERE = Path()
TYPICAL_SEED = 1
"""Of six seeds of the demo, the one in which verdicts do nearly what they do on average: docs/phantom.md."""
DemoClasses = Annotated[
    int, typer.Option("--classes", min=2, max=3, help="3: normal slides, and those of two lesions.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of study.yaml, e.g. mining.n_clusters=8."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="For scripts: stdout has one JSON object and nothing else, also after an error."
    ),
]
Mpp = Annotated[
    float | None, typer.Option(help="Micrometres per pixel of slides that do not state it; sets patches.mpp.")
]
Icc = Annotated[bool, typer.Option("--icc", help="Apply colour profiles in files; sets patches.icc.")]
DeviceName = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Population = Annotated[
    int | None,
    typer.Option(help="Networks that train at once; by default as many as fit on a GPU, 1 on a CPU."),
]
EngineName = Annotated[str, typer.Option("--engine", help="local, or ray for a cluster.")]
Workers = Annotated[int, typer.Option(help="Number of parallel processes.")]
Address = Annotated[
    str | None, typer.Option(help="HOST:PORT of a Ray head; by default, Ray is started on this machine.")
]
OperatingPoint = Annotated[
    str | None, typer.Option(help="What the threshold is set for: sensitivity=0.95, fpr=0.05 or youden.")
]
MaxMinutes = Annotated[float, typer.Option(help="Time limit for each slide; 0: no limit.", min=0)]
TrustEncoder = Annotated[
    bool,
    typer.Option(
        help="Run the encoder that the bundle names, where it is code: .pt, .ts, .pt2, module:callable."
    ),
]
Deidentify = Annotated[
    bool,
    typer.Option(
        "--deidentify", help="Write pseudonyms instead of slide and case ids; their table stays in the study."
    ),
]
PredictionFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="Folder to write to, in which an earlier prediction is replaced; by default a new one, "
        "predictions, predictions-2, ...",
    ),
]
CaseScore = Literal["pooled", "max", "mean"]
HeatmapOf = Literal["attention", "contribution"]
HeatmapScale = Literal["rank", "raw"]
ShownClass = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="Of more than two classes, the one whose attention heat maps show, or all; by default the "
        "predicted one.",
    ),
]
TissueSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another setting of what counts as tissue, e.g. patches.min_tissue=0.",
    ),
]
Track = Annotated[
    Literal["mlflow", "tensorboard"] | None, typer.Option(help="Log the run to a tracker; off by default.")
]
OnlyFolds = Annotated[str | None, typer.Option(help="Run only these folds, e.g. 0,1.")]


def settings_of(
    overrides: list[str] | None,
    *,
    mpp: float | None = None,
    icc: bool = False,
    operating_point: str | None = None,
) -> list[str]:
    """The overrides, with those that flags stand for."""
    flags = [f"patches.mpp={mpp}"] * (mpp is not None) + ["patches.icc=true"] * icc
    if operating_point is not None:
        flags.append(f"evaluation.operating_point={operating_point}")
    return [*(overrides or []), *flags]


def numbers_of(text: str | None) -> tuple[int, ...] | None:
    """(0, 1) for "0,1"."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: expected numbers of folds, such as 0,1") from error

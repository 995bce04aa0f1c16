"""The command line: parse, call one command, print. Imports nothing heavy before a command runs."""

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hardmil.commands.answer import finish, json_alone, print_error, print_json, print_stopped
from hardmil.commands.options import (
    HERE,
    TYPICAL_SEED,
    Address,
    Deidentify,
    DemoClasses,
    DeviceName,
    EngineName,
    Icc,
    Json,
    MaxMinutes,
    Mpp,
    OnlyFolds,
    OperatingPoint,
    Population,
    Quiet,
    Set,
    StudyPath,
    Track,
    Workers,
    numbers_of,
    settings_of,
)
from hardmil.commands.predict_cli import predict
from hardmil.commands.review_cli import review
from hardmil.errors import HardmilError
from hardmil.stopping import ended_by_signals

app = typer.Typer(
    name="hardmil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended."""
WRONG_USAGE = 2
"""Exit status after wrong arguments; typer has printed why."""


def main() -> None:
    """Run the command line; an error that the user can fix is one line on stderr and exit 1.

    With `--json`, it is also printed as JSON, and stdout has nothing but JSON.
    """
    as_json = "--json" in sys.argv[1:]
    tell = partial(print_stopped, as_json=as_json)
    with json_alone() if as_json else nullcontext(), ended_by_signals(tell):
        try:
            app()
        except HardmilError as error:
            print_error(str(error), as_json=as_json)
            sys.exit(1)
        except SystemExit as stop:
            if stop.code == INTERRUPTED:
                tell()
            elif stop.code == WRONG_USAGE and as_json:
                print_json({"error": "wrong arguments; the message is on stderr"})
            raise


def _version(asked: bool | None) -> None:
    if asked:
        from importlib.metadata import version

        print(f"hardmil {version('hardmil')}")
        raise typer.Exit


@app.callback()
def _hardmil(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = None,
) -> None:
    """Attention-MIL classifiers of histology slides, with hard negative mining. Research use only."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder of the demo study.")] = Path("hardmil-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the synthetic cohort and the training.")] = TYPICAL_SEED,
    classes: DemoClasses = 2,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Synthetic cohort: train, mine, retrain, and write report.html."""
    from hardmil.commands.demo import demo as run

    n_classes = 3 if classes == 3 else 2
    finish(run(output, seed=seed, n_classes=n_classes, quiet=quiet), as_json=as_json)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create.")],
    encode: Annotated[
        str | None,
        typer.Option("--encode", help="pixels, or an encoder; by default efficientnet-lite0 if installed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented study.yaml and a slides.csv to fill in."""
    from hardmil.commands.init import init as run

    finish(run(folder, encode=encode), as_json=as_json)


@app.command()
def patch(
    study: StudyPath = HERE,
    overrides: Set = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    address: Address = None,
    max_minutes: MaxMinutes = 60.0,
    mpp: Mpp = None,
    icc: Icc = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find tissue and patches of every slide; draw a contact sheet."""
    from hardmil.commands.patch import patch as run
    from hardmil.jobs.pool import find_engine
    from hardmil.preprocessing.process_slides import RunOptions

    settings = settings_of(overrides, mpp=mpp, icc=icc)
    options = RunOptions(find_engine(engine, workers=workers, address=address), max_minutes, quiet)
    finish(run(study, overrides=settings, options=options), as_json=as_json)


@app.command()
def encode(
    study: StudyPath = HERE,
    overrides: Set = None,
    mpp: Mpp = None,
    icc: Icc = False,
    device: DeviceName = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    address: Address = None,
    max_minutes: MaxMinutes = 60.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one file per slide: pixels or embeddings of its patches."""
    from hardmil.commands.encode import encode as run
    from hardmil.jobs.pool import find_engine
    from hardmil.preprocessing.process_slides import RunOptions

    settings = settings_of(overrides, mpp=mpp, icc=icc)
    options = RunOptions(find_engine(engine, workers=workers, address=address), max_minutes, quiet)
    finish(run(study, overrides=settings, device=device, options=options), as_json=as_json)


@app.command()
def train(
    study: StudyPath = HERE,
    overrides: Set = None,
    operating_point: OperatingPoint = None,
    device: DeviceName = None,
    track: Track = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one deployable bundle on all slides."""
    from hardmil.commands.train import train as run

    settings = settings_of(overrides, operating_point=operating_point)
    finish(run(study, overrides=settings, device=device, track=track, quiet=quiet), as_json=as_json)


@app.command()
def evaluate(
    study: StudyPath = HERE,
    overrides: Set = None,
    name: Annotated[str, typer.Option(help="Folder of the run, in runs/.")] = "main",
    only_folds: OnlyFolds = None,
    operating_point: OperatingPoint = None,
    device: DeviceName = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    address: Address = None,
    population: Population = None,
    track: Track = None,
    deidentify: Deidentify = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare arms on the same folds: results.csv and report.html."""
    from hardmil.commands.evaluate import evaluate as run
    from hardmil.jobs.pool import find_engine

    outcome = run(
        study,
        overrides=settings_of(overrides, operating_point=operating_point),
        name=name,
        only_folds=numbers_of(only_folds),
        device=device,
        engine=find_engine(engine, workers=workers, address=address, population=population),
        track=track,
        deidentify=deidentify,
        quiet=quiet,
    )
    finish(outcome, as_json=as_json)


@app.command()
def mine(
    study: StudyPath = HERE,
    bundle: Annotated[Path | None, typer.Option(help="A bundle; by default that of the study.")] = None,
    overrides: Set = None,
    device: DeviceName = None,
    deidentify: Deidentify = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the hard negatives of a bundle: table, gallery, GeoJSON. Never trains."""
    from hardmil.commands.mine import mine as run

    outcome = run(
        study,
        bundle_folder=bundle,
        overrides=overrides or (),
        device=device,
        deidentify=deidentify,
        quiet=quiet,
    )
    finish(outcome, as_json=as_json)


app.command()(predict)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(metavar="colon|ucsb", help="Which of the paper's two data sets.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set in its original layout.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to; reproduce-NAME by default.")
    ] = None,
    arms: Annotated[
        str | None, typer.Option(help="Arms, separated by commas; the paper's by default.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds; the paper's 10 (colon) or 4 (ucsb) by default.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Repeats of cross-validation; the paper's 5 by default.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="The paper's 120 (colon) or 300 (ucsb) by default.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="image: each image is a case; group: images that belong together are.")
    ] = "image",
    patches: Annotated[str, typer.Option(help="grid, or nuclei (colon).")] = "grid",
    encoder: Annotated[
        str | None, typer.Option(help="Features of an encoder, e.g. efficientnet-lite0; pixels by default.")
    ] = None,
    only_folds: OnlyFolds = None,
    overrides: Set = None,
    device: DeviceName = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    address: Address = None,
    population: Population = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a data set of the paper; print its table next to ours."""
    from hardmil.commands.reproduce import reproduce as run
    from hardmil.jobs.pool import find_engine
    from hardmil.paper.reproduction import Reproduction

    protocol = Reproduction(
        folds=folds,
        repeats=repeats,
        epochs=epochs,
        arms=tuple(part.strip() for part in arms.split(",")) if arms else None,
        split=split,
        patches=patches,
        encoder=encoder,
        only_folds=numbers_of(only_folds),
    )
    outcome = run(
        name,
        data=data,
        output=output or Path(f"reproduce-{name}"),
        protocol=protocol,
        overrides=overrides or (),
        device=device,
        engine=find_engine(engine, workers=workers, address=address, population=population),
        quiet=quiet,
    )
    finish(outcome, as_json=as_json)


@app.command()
def doctor(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY]", help="A study to check: table, folds, slides, duplicates."),
    ] = None,
    overrides: Set = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check the installation and, if one is given, a study.

    The exit status is 1 if something is wrong with the study.
    """
    from hardmil.commands.doctor import doctor as run

    finish(run(study, overrides=overrides or (), quiet=quiet), as_json=as_json)


app.command()(review)

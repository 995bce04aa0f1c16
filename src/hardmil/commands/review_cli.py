"""The options of `hardmil review`; a file of its own, because `cli.py` is long."""

from pathlib import Path
from typing import Annotated

import typer

from hardmil.commands.answer import finish
from hardmil.commands.options import HERE, DeviceName, Json, Quiet, Set, StudyPath, Workers

Run = Annotated[str, typer.Option(help="The evaluation to review: its folder in runs/.")]


def review(
    study: StudyPath = HERE,
    overrides: Set = None,
    run: Run = "main",
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: a free one.", min=0, max=65_535)] = 0,
    token: Annotated[
        str | None, typer.Option(help="What the browser has to know; by default one is made with --host.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train with and without the verdicts, and measure their effect.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the verdicts to this folder: verdicts.csv and GeoJSON.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--import", metavar="FILE", help="Add the verdicts in a table or a GeoJSON file; can be repeated."
        ),
    ] = None,
    reviewer: Annotated[str, typer.Option(help="Who gave the verdicts in --import files without one.")] = "",
    device: DeviceName = None,
    workers: Workers = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge patches in a browser; the verdicts are used by the next training.

    With --import, --export or --retrain, no server is started.
    """
    if retrain or export is not None or files:
        from hardmil.commands.review import without_server
        from hardmil.jobs.pool import find_engine

        outcome = without_server(
            study,
            run=run,
            files=files or (),
            reviewer=reviewer,
            export_to=export,
            retraining=retrain,
            overrides=overrides or (),
            device=device,
            engine=find_engine("local", workers=workers),
            quiet=quiet,
        )
        finish(outcome, as_json=as_json)
        return
    from hardmil.commands.review_server import ServerOptions, check_server, serve_review
    from hardmil.preprocessing.study_folder import open_study
    from hardmil.review.workspace import open_workspace

    options = ServerOptions(host, port, token, browser)
    check_server(options)
    with open_workspace(open_study(study, overrides=overrides or ()), run=run) as workspace:
        arguments = [str(study), "--run", run, *(part for one in overrides or () for part in ("--set", one))]
        serve_review(workspace, options, arguments=arguments)

"""The options of `hardmil review`; a file of its own, because `cli.py` is long."""

from typing import Annotated

import typer

from hardmil.commands.options import HERE, Set, StudyPath

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
) -> None:
    """Judge patches in a browser; the verdicts are used by the next training."""
    from hardmil.commands.review_server import ServerOptions, check_server, serve_review
    from hardmil.preprocessing.study_folder import open_study
    from hardmil.review.workspace import open_workspace

    options = ServerOptions(host, port, token, browser)
    check_server(options)
    with open_workspace(open_study(study, overrides=overrides or ()), run=run) as workspace:
        serve_review(workspace, options, study=study, run=run)

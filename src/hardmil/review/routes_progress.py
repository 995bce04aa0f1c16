"""Retraining, and files that go out and come in."""

import io
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from hardmil.errors import TableError
from hardmil.review.context import ReviewContext, Reviewer, same_study
from hardmil.review.exchange import TABLE, export_verdicts, import_verdicts

SUFFIXES = (".csv", ".geojson", ".json")
MOST_NAME_CHARS = 255


def progress_routes(context: ReviewContext) -> APIRouter:
    """The routes of retraining, export and import."""
    routes = APIRouter()
    writes = [same_study(context)]

    @routes.get("/api/retraining")
    def retraining() -> dict[str, Any]:
        return _status(context)

    @routes.post("/api/retraining", dependencies=writes)
    def start(_: Reviewer) -> dict[str, Any]:
        context.retraining.start()
        return _status(context)

    @routes.post("/api/retraining/stop", dependencies=writes)
    def stop(_: Reviewer) -> dict[str, Any]:
        context.retraining.stop()
        return _status(context)

    @routes.get("/export/verdicts.csv", response_class=Response)
    def table() -> Response:
        with tempfile.TemporaryDirectory() as folder:
            content = _export(context, Path(folder))[TABLE]
        return _download(content, name=TABLE, media_type="text/csv; charset=utf-8")

    @routes.get("/export/verdicts.zip", response_class=Response)
    def archive() -> Response:
        with tempfile.TemporaryDirectory() as folder:
            files = _export(context, Path(folder))
        return _download(_zipped(files), name="verdicts.zip", media_type="application/zip")

    @routes.post("/api/import", dependencies=writes)
    async def take_in(
        request: Request,
        name: Annotated[str, Query(min_length=1, max_length=MOST_NAME_CHARS)],
        reviewer: Reviewer,
    ) -> dict[str, Any]:
        content = await request.body()
        return await run_in_threadpool(_import, context, name=name, content=content, reviewer=reviewer)

    return routes


def _status(context: ReviewContext) -> dict[str, Any]:
    return asdict(context.retraining.status)


def _zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def _download(content: bytes, *, name: str, media_type: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


def _checked_file_name(name: str) -> str:
    """The name, if it is a plain one with a known ending.

    Raises:
        TableError: If it is not.
    """
    if Path(name).name != name or "\\" in name or not name.isprintable() or name.startswith("."):
        raise TableError(f"{name!r} is not the name of a file; expected verdicts.csv or SLIDE.geojson")
    if Path(name).suffix.lower() not in SUFFIXES:
        raise TableError(
            f"{name}: is neither a table nor GeoJSON; expected a file that ends with {', '.join(SUFFIXES)}; "
            "export it from QuPath as GeoJSON, or save the table as CSV"
        )
    return name


def _export(context: ReviewContext, folder: Path) -> dict[str, bytes]:
    """The files of an export, by name; the table is the first."""
    space = context.workspace
    written = export_verdicts(space.store, folder=folder, study=space.study)
    return {path.name: path.read_bytes() for path in written}


def _import(context: ReviewContext, *, name: str, content: bytes, reviewer: str) -> dict[str, Any]:
    """What became of a file that was sent.

    Raises:
        TableError: If it cannot be read, or has a verdict that is not known.
        StoreError: If the disk is full.
    """
    space = context.workspace
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _checked_file_name(name)
        path.write_bytes(content)
        try:
            report = import_verdicts(space.store, files=[path], study=space.study, reviewer=reviewer)
        except TableError as error:
            # The folder is of no interest to the one who sent the file.
            raise TableError(str(error).replace(f"{folder}/", "")) from error
    return {"lines": report.lines}

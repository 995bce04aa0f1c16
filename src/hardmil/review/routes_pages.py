"""The pages of the server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hardmil.review.agreement import VERDICTS
from hardmil.review.context import MOST, Number, ReviewContext, name_in_cookie
from hardmil.review.curve import fpr_curve
from hardmil.review.routes_verdicts import queue_items
from hardmil.review.templating import VIEWER, page, render
from hardmil.review.workspace import ProgressRow


@dataclass(frozen=True)
class _Day:
    """How many patches got each of the verdicts, in the order of `VERDICTS`."""

    reviewer: str
    day: str
    source: str
    counts: tuple[int, ...]


NEXT_PAGES = ("/", "/cluster", "/cases", "/progress")
"""Where the page that asks for the name may lead to."""


def page_routes(context: ReviewContext) -> APIRouter:
    """The routes of all pages."""
    routes = APIRouter(default_response_class=HTMLResponse)
    space = context.workspace

    @routes.get("/reviewer")
    def reviewer(request: Request, next: Annotated[str, Query(max_length=100)] = "/") -> Response:  # noqa: A002
        target = next if next in NEXT_PAGES else "/"
        return page(request, "reviewer.html.jinja", context=context, next=target)

    @routes.get("/")
    def queue(request: Request) -> Response:
        return _named(request, lambda _: page(request, "queue.html.jinja", context=context, here="Queue"))

    @routes.get("/cluster")
    def first_cluster(request: Request) -> Response:
        def lead(name: str) -> Response:
            items = queue_items(context, reviewer=name)
            left = [one["cluster"] for one in items if one["verdict"] is None and one["cluster"] >= 0]
            number = next(iter(left), None)
            if number is None:
                number = next(iter(_clusters(context)), None)
            if number is None:
                return _message(
                    request,
                    context,
                    heading="There are no clusters",
                    message="Clusters need the features of the patches, which this study does not have.",
                )
            return RedirectResponse(f"/cluster/{number}", status_code=303)

        return _named(request, lead)

    @routes.get("/cluster/{number}")
    def cluster(request: Request, number: Number) -> Response:
        clusters = _clusters(context)
        if number not in clusters:
            raise HTTPException(404, f"There is no cluster {number}; there are {len(clusters)}.")

        def show(name: str) -> Response:
            items = [one for one in queue_items(context, reviewer=name) if one["cluster"] == number]
            at = clusters.index(number)
            return page(
                request,
                "cluster.html.jinja",
                context=context,
                here="Clusters",
                number=number,
                position=at + 1,
                n_clusters=len(clusters),
                items=items,
                previous=clusters[at - 1],
                next=clusters[(at + 1) % len(clusters)],
            )

        return _named(request, show)

    @routes.get("/slide/{number}")
    def slide(
        request: Request, number: Number, patch: Annotated[int | None, Query(ge=0, le=MOST)] = None
    ) -> Response:
        about = context.slide(number)
        return _named(
            request,
            lambda _: page(
                request,
                "slide.html.jinja",
                context=context,
                number=number,
                n_slides=len(space.slides),
                slide=about,
                start="" if patch is None else patch,
                has_viewer=VIEWER.exists(),
            ),
        )

    @routes.get("/cases")
    def cases(request: Request) -> Response:
        values = {"run": space.run, "arm": space.arm, "cases": space.cases(), "slides": space.slides}
        return _named(
            request, lambda _: page(request, "cases.html.jinja", context=context, here="Cases", **values)
        )

    @routes.get("/progress")
    def progress(request: Request) -> Response:
        found = space.progress()
        values = {"rows": _days(found.rows), "rounds": found.rounds, "agreements": space.agreements()}
        return _named(
            request,
            lambda _: page(
                request,
                "progress.html.jinja",
                context=context,
                here="Progress",
                verdict_names=VERDICTS,
                **values,
            ),
        )

    @routes.get("/progress/curve.svg", response_class=Response)
    def curve() -> Response:
        drawing = render("curve.svg.jinja", {"curve": fpr_curve(space.progress().rounds)})
        return Response(drawing, media_type="image/svg+xml")

    return routes


def _named(request: Request, show: Callable[[str], Response]) -> Response:
    """A page, once the reviewer has given a name; before, the page that asks for it."""
    name = name_in_cookie(request)
    if name is None:
        target = request.url.path if request.url.path in NEXT_PAGES else "/"
        return RedirectResponse(f"/reviewer?next={target}", status_code=303)
    return show(name)


def _days(rows: Sequence[ProgressRow]) -> list[_Day]:
    """The verdicts of a reviewer on a day from one source, in one line."""
    keys = dict.fromkeys((row.reviewer, row.day, row.source) for row in rows)
    counts = {(row.reviewer, row.day, row.source, row.verdict): row.n for row in rows}
    return [_Day(*key, tuple(counts.get((*key, verdict), 0) for verdict in VERDICTS)) for key in keys]


def _clusters(context: ReviewContext) -> list[int]:
    """Numbers of the clusters in the order in which the queue comes to them."""
    return list(dict.fromkeys(one.cluster for one in context.workspace.queue if one.cluster >= 0))


def _message(request: Request, context: ReviewContext, *, heading: str, message: str) -> Response:
    return page(request, "error.html.jinja", context=context, heading=heading, message=message)

"""The pages of the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hardmil.review.context import MOST, ClassNumber, Number, ReviewContext, name_in_cookie
from hardmil.review.curve import fpr_curve
from hardmil.review.routes_verdicts import queue_items
from hardmil.review.templating import VIEWER, page, render
from hardmil.review.workspace import ProgressRow

NEXT_PAGES = ("/", "/cluster", "/cases", "/progress")
"""Where the page that asks for the name may lead to."""


@dataclass(frozen=True)
class _Day:
    """How many patches got each of the verdicts, in the order of the table."""

    reviewer: str
    day: str
    source: str
    counts: tuple[int, ...]


def _name_or_ask(request: Request) -> str:
    """The name of the reviewer; without one, the answer leads to the page that asks for it."""
    name = name_in_cookie(request)
    if name is None:
        target = request.url.path if request.url.path in NEXT_PAGES else "/"
        raise HTTPException(303, headers={"location": f"/reviewer?next={target}"})
    return name


_Named = Annotated[str, Depends(_name_or_ask)]


def page_routes(context: ReviewContext) -> APIRouter:
    """The routes of all pages."""
    routes = APIRouter(default_response_class=HTMLResponse)
    _add_judging(routes, context)
    _add_overviews(routes, context)

    @routes.get("/reviewer")
    def reviewer(request: Request, next: Annotated[str, Query(max_length=100)] = "/") -> Response:  # noqa: A002
        target = next if next in NEXT_PAGES else "/"
        return page(request, "reviewer.html.jinja", context=context, next=target)

    return routes


def _add_judging(routes: APIRouter, context: ReviewContext) -> None:
    """The pages on which patches are judged."""

    @routes.get("/")
    def queue(request: Request, _: _Named, number: ClassNumber = None) -> Response:
        chosen = context.branch(number)
        return page(request, "queue.html.jinja", context=context, here="Queue", chosen=chosen)

    @routes.get("/cluster")
    def first_cluster(name: _Named, number: ClassNumber = None) -> Response:
        chosen = context.branch(number)
        items = queue_items(context, reviewer=name, branch=chosen)
        left = [one["cluster"] for one in items if one["verdict"] is None and one["cluster"] >= 0]
        first = next(iter([*left, *_clusters(context, chosen)]), None)
        if first is None:
            raise HTTPException(
                404, "There are no clusters: they need the features of the patches, and none could be read."
            )
        return RedirectResponse(f"/cluster/{first}{_query(chosen)}", status_code=303)

    @routes.get("/cluster/{number}")
    def cluster(request: Request, number: Number, name: _Named, class_number: ClassNumber = None) -> Response:
        chosen = context.branch(class_number)
        clusters = _clusters(context, chosen)
        if number not in clusters:
            raise HTTPException(404, f"There is no cluster {number}; there are {len(clusters)}.")
        at = clusters.index(number)
        in_question = context.workspace.cluster(number)[0].branch
        return page(
            request,
            "cluster.html.jinja",
            context=context,
            here="Clusters",
            number=number,
            position=at + 1,
            n_clusters=len(clusters),
            items=[one for one in queue_items(context, reviewer=name) if one["cluster"] == number],
            previous=f"{clusters[at - 1]}{_query(chosen)}",
            next=f"{clusters[(at + 1) % len(clusters)]}{_query(chosen)}",
            chosen=chosen,
            in_question=context.class_titles[in_question] if context.class_titles else "",
        )

    @routes.get("/slide/{number}")
    def slide(
        request: Request, number: Number, _: _Named, patch: Annotated[int | None, Query(ge=0, le=MOST)] = None
    ) -> Response:
        return page(
            request,
            "slide.html.jinja",
            context=context,
            number=number,
            n_slides=len(context.workspace.slides),
            slide=context.slide(number),
            start="" if patch is None else patch,
            chosen=context.workspace.branch_in_question(number, patch),
            has_viewer=VIEWER.exists(),
        )


def _add_overviews(routes: APIRouter, context: ReviewContext) -> None:
    """The pages on cases and progress."""
    space = context.workspace

    @routes.get("/cases")
    def cases(request: Request, _: _Named, number: ClassNumber = None) -> Response:
        chosen = context.branch(number)
        values = {
            "run": space.run,
            "arm": space.arm,
            "cases": space.cases(branch=chosen),
            "slides": space.slides,
        }
        return page(request, "cases.html.jinja", context=context, here="Cases", chosen=chosen, **values)

    @routes.get("/progress")
    def progress(request: Request, _: _Named) -> Response:
        found = space.progress()
        titles = {one.word: one.title for one in space.answers}
        return page(
            request,
            "progress.html.jinja",
            context=context,
            here="Progress",
            rows=_days(found.rows, words=space.words),
            rounds=found.rounds,
            agreements=space.agreements(),
            verdict_names=[titles[word] for word in space.words],
        )

    @routes.get("/progress/curve.svg", response_class=Response)
    def curve() -> Response:
        drawing = render("curve.svg.jinja", {"curve": fpr_curve(space.progress().rounds)})
        return Response(drawing, media_type="image/svg+xml")


def _days(rows: Sequence[ProgressRow], *, words: Sequence[str]) -> list[_Day]:
    """The verdicts of a reviewer on a day from one source, in one line."""
    keys = dict.fromkeys((row.reviewer, row.day, row.source) for row in rows)
    counts = {(row.reviewer, row.day, row.source, row.verdict): row.n for row in rows}
    return [_Day(*key, tuple(counts.get((*key, word), 0) for word in words)) for key in keys]


def _clusters(context: ReviewContext, chosen: int | None) -> list[int]:
    """Numbers of the clusters, or of those of one class, in the order in which the queue comes to them."""
    items = context.workspace.queue_of(chosen)
    return list(dict.fromkeys(one.cluster for one in items if one.cluster >= 0))


def _query(chosen: int | None) -> str:
    """What an address ends with, so that the next page is limited to the same class."""
    return "" if chosen is None else f"?class={chosen}"

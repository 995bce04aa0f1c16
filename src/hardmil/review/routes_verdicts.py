"""The queue as data, and everything that a reviewer saves."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from hardmil.mining.verdict_store import NewVerdict, Source, StoredVerdict
from hardmil.review.context import (
    MOST,
    MOST_NAME_CHARS,
    REVIEWER_COOKIE,
    ClassNumber,
    Number,
    ReviewContext,
    Reviewer,
    checked_name,
    same_study,
)
from hardmil.review.held_out_slides import ReviewSlide, SlidePatches

MOST_WORD_CHARS = 500
MOST_PATCHES = 500
"""Patches that are judged at once, in a cluster."""
YEAR_S = 365 * 24 * 3600

Index = Annotated[int, Field(ge=0, le=MOST, strict=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PatchVerdict(_Body):
    """A verdict on a patch, by the numbers of its slide and of the patch on it."""

    slide: Index
    instance: Index
    verdict: Annotated[str, Field(min_length=1, max_length=MOST_WORD_CHARS)]


class Verdicts(_Body):
    """Verdicts that are saved, and undone, together."""

    patches: Annotated[list[PatchVerdict], Field(min_length=1, max_length=MOST_PATCHES)]
    source: Literal["queue", "cluster", "slide"]
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    revealed: bool = False


class Remark(_Body):
    """What a reviewer says of a whole slide; `fine` takes an earlier remark back."""

    remark: Literal["label wrong", "poor quality", "fine"]
    comment: Annotated[str, Field(max_length=1_000)] = ""


class Name(_Body):
    """The name of a reviewer."""

    name: Annotated[str, Field(min_length=1, max_length=MOST_NAME_CHARS)]


def verdict_routes(context: ReviewContext) -> APIRouter:
    """The routes of the queue and of what is saved."""
    routes = APIRouter(prefix="/api")
    writes = [same_study(context)]
    store = context.workspace.store

    @routes.get("/queue")
    def queue(reviewer: Reviewer, number: ClassNumber = None) -> dict[str, Any]:
        items = queue_items(context, reviewer=reviewer, branch=context.branch(number))
        return {"items": items, "counts": _counts(context, reviewer)}

    @routes.get("/slides/{slide}/patches/{instance}")
    def place(slide: Number, instance: Number) -> dict[str, Any]:
        square = context.square(slide, instance)
        return asdict(context.pictures.place(slide, square=square, mpp=context.slide(slide).mpp))

    @routes.get("/slides/{slide}/patches/{instance}/scores")
    def scores(slide: Number, instance: Number) -> dict[str, Any]:
        context.square(slide, instance)
        return _scores(context, slide, instance)

    @routes.post("/verdicts", dependencies=writes)
    def save(body: Verdicts, reviewer: Reviewer) -> dict[str, Any]:
        drawn = {(one.slide, one.instance) for one in context.workspace.queue if one.reason == "random"}
        new = [
            NewVerdict(
                reviewer=reviewer,
                patch=context.judged_patch(one.slide, one.instance),
                verdict=answer.kind,
                source=_source(body.source, is_random=(one.slide, one.instance) in drawn),
                seconds=None if body.seconds is None else body.seconds / len(body.patches),
                revealed=body.revealed,
                class_name=answer.class_name,
            )
            for one, answer in ((one, context.answer(one.verdict)) for one in body.patches)
        ]
        numbers = _repeated(store.verdicts(), new) or store.add(new)
        return {"numbers": numbers, "counts": _counts(context, reviewer)}

    @routes.post("/undo", dependencies=writes)
    def undo(reviewer: Reviewer) -> dict[str, Any]:
        found = store.undo(reviewer)
        return {"undone": _undone(context, found), "counts": _counts(context, reviewer)}

    @routes.post("/slides/{slide}/remark", dependencies=writes)
    def remark(slide: Number, body: Remark, reviewer: Reviewer) -> dict[str, Any]:
        slide_id = context.slide(slide).slide_id
        number = store.remark(reviewer=reviewer, slide_id=slide_id, remark=body.remark, comment=body.comment)
        return {"number": number}

    return routes


def reviewer_routes() -> APIRouter:
    """The route that takes the name of the reviewer."""
    routes = APIRouter(prefix="/api")

    @routes.post("/reviewer")
    def name(body: Name, response: Response) -> dict[str, Any]:
        found = checked_name(body.name)
        if found is None:
            response.status_code = 422
            return {
                "detail": "The name has no visible letter, or signs that cannot be shown. Enter another one."
            }
        response.set_cookie(
            REVIEWER_COOKIE, quote(found), httponly=True, samesite="strict", path="/", max_age=YEAR_S
        )
        return {"name": found}

    return routes


def queue_items(context: ReviewContext, *, reviewer: str, branch: int | None = None) -> list[dict[str, Any]]:
    """The queue for a page, or that of one class: nothing in it tells what the model thought of a patch."""
    space = context.workspace
    said = space.judged_by(reviewer)
    return [
        {
            "slide": one.slide,
            "instance": one.instance,
            "cluster": one.cluster,
            "verdict": _verdict(said.get(space.patch_of(one))),
        }
        for one in space.queue_of(branch)
    ]


def _verdict(found: StoredVerdict | None) -> str | None:
    return None if found is None else found.verdict


def _source(source: Literal["queue", "cluster", "slide"], *, is_random: bool) -> Source:
    """Verdicts on patches that were drawn at random are the unbiased control, in a queue as in a cluster."""
    return "random" if is_random and source == "queue" else source


def _repeated(rows: Sequence[StoredVerdict], new: Sequence[NewVerdict]) -> list[int]:
    """Numbers of the last rows of the reviewer, if they say the same; otherwise none.

    A page sends again what was saved if it never got the answer. A second row would have to be undone twice.
    """
    own = [one for one in rows if one.reviewer == new[0].reviewer]
    last = [one for one in own if one.action == own[-1].action]
    is_same = {(one.patch, one.verdict) for one in last} == {(one.patch, one.word) for one in new}
    return [one.number for one in last] if is_same else []


def _undone(context: ReviewContext, found: StoredVerdict | None) -> dict[str, Any] | None:
    """What was undone, for the page; its numbers are None where the study has no such patch any more."""
    if found is None:
        return None
    slide, instance = context.numbers_of(found.patch) or (None, None)
    return {"slide": slide, "instance": instance, "verdict": found.verdict}


def _counts(context: ReviewContext, reviewer: str) -> dict[str, Any]:
    return asdict(context.workspace.counts(reviewer))


def _scores(context: ReviewContext, slide: int, instance: int) -> dict[str, Any]:
    about, space = context.slide(slide), context.workspace
    branch = space.branch_in_question(slide, instance)
    return {
        "slide_id": about.slide_id,
        "case_id": about.case_id,
        "label": about.label,
        "prediction": about.prediction,
        # Of each branch; the class in question first. Two classes have one branch.
        "classes": [
            _branch_scores(
                about, one, title=title, patches=space.patches(slide, branch=one), instance=instance
            )
            for one, title in sorted(
                enumerate(context.class_titles or ("",)), key=lambda pair: pair[0] != branch
            )
        ],
    }


def _branch_scores(
    about: ReviewSlide, branch: int, *, title: str, patches: SlidePatches, instance: int
) -> dict[str, Any]:
    return {
        "title": title,
        "score": finite(about.calls[branch].score),
        "threshold": finite(about.calls[branch].threshold),
        "attention": finite(patches.attention[instance]),
        "attention_times_n": finite(patches.attention[instance] * about.n_patches),
        "contribution": finite(patches.contribution[instance]),
        "logit": finite(patches.logit[instance]),
    }


def finite(value: float | np.floating) -> float | None:
    """The value for JSON, which has no NaN."""
    value = float(value)
    return value if abs(value) < float("inf") else None

"""A slide as data: its size, its tiles, its patches with their scores and verdicts."""

from typing import Any

import numpy as np
from fastapi import APIRouter
from jaxtyping import Float

from hardmil.review.context import ClassNumber, Number, ReviewContext, Reviewer
from hardmil.review.tiles import TILE_PX


def slide_routes(context: ReviewContext) -> APIRouter:
    """The route of the slide view's data."""
    routes = APIRouter(prefix="/api")

    @routes.get("/slides/{slide}")
    def slide(slide: Number, reviewer: Reviewer, number: ClassNumber = None) -> dict[str, Any]:
        about = context.slide(slide)
        branch = context.branch(number)
        if branch is None:
            branch = context.workspace.branch_in_question(slide)
        pyramid = context.pictures.pyramid(slide)
        patches = context.workspace.patches(slide, branch=branch)
        return {
            "width": pyramid.width_px,
            "height": pyramid.height_px,
            "mpp": about.mpp or context.pictures.mpp(slide),
            "tile_px": TILE_PX,
            "min_level": pyramid.min_level,
            "max_level": pyramid.max_level,
            "size": about.size_level0,
            "x": patches.coords[:, 0].tolist(),
            "y": patches.coords[:, 1].tolist(),
            "attention": _values(patches.attention),
            "contribution": _values(patches.contribution),
            "logit": _values(patches.logit),
            "verdicts": _verdicts(context, slide, reviewer=reviewer),
        }

    return routes


def _verdicts(context: ReviewContext, number: int, *, reviewer: str) -> dict[int, str]:
    """What the reviewer has said of the patches of a slide, by the number of the patch."""
    about = context.slide(number)
    said = {
        (patch.x, patch.y): one.verdict
        for patch, one in context.workspace.judged_by(reviewer).items()
        if patch.slide_id == about.slide_id and patch.size == about.size_level0
    }
    if not said:
        return {}
    places = enumerate(context.workspace.patches(number).coords.tolist())
    return {i: said[x, y] for i, (x, y) in places if (x, y) in said}


def _values(values: Float[np.ndarray, " patch"]) -> list[float | None]:
    """Numbers for JSON, which has no NaN, with six digits."""
    return [None if not np.isfinite(value) else float(f"{value:.6g}") for value in values]

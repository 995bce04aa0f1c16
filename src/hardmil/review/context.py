"""What the routes of the server share, and how they look up numbers and names from a request."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated
from urllib.parse import unquote

import numpy as np
from fastapi import Depends, Header, HTTPException, Path, Query, Request
from fastapi.params import Depends as DependsParameter

from hardmil.geometry import Rectangle
from hardmil.mining.verdict_store import JudgedPatch
from hardmil.review.answers import Answer
from hardmil.review.background import BackgroundCommand
from hardmil.review.held_out_slides import ReviewSlide
from hardmil.review.queue import QueueItem
from hardmil.review.slide_pictures import SlidePictures
from hardmil.review.workspace import Workspace

REVIEWER_COOKIE = "hardmil_reviewer"
MOST_NAME_CHARS = 60
MOST = 10**8
"""Largest number of a slide, a patch, a tile or a cluster that is looked up at all."""

Number = Annotated[int, Path(ge=0, le=MOST)]
ClassNumber = Annotated[int | None, Query(alias="class", ge=0, le=MOST)]
"""The number of a class that a page is limited to, in the order of the branches; None: all."""


@dataclass(frozen=True, eq=False)
class ReviewContext:
    """The study under review, its pictures, and the retraining that runs next to the server."""

    workspace: Workspace
    pictures: SlidePictures
    retraining: BackgroundCommand

    @cached_property
    def identity(self) -> str:
        """Short digest of the slides and patches that numbers stand for.

        A page of another study, or of another evaluation, that is still open must not save verdicts here.
        """
        space = self.workspace
        known = [str(space.study.folder), space.run, space.arm, *space.held_out.task.names]
        known += [f"{one.slide_id} {one.n_patches} {one.size_level0}" for one in space.slides]
        return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]

    @property
    def class_titles(self) -> tuple[str, ...]:
        """What each branch asks for, in words; none where there are two classes."""
        task = self.workspace.held_out.task
        return () if task.is_binary else task.branch_titles

    def branch(self, number: int | None) -> int | None:
        """The branch of this number; None: all.

        Raises:
            HTTPException: If there is no such class, or there are two classes.
        """
        if number is not None and number >= len(self.class_titles):
            n = len(self.class_titles)
            raise HTTPException(404, f"There is no class {number}; there are {n} to choose from.")
        return number

    def answer(self, word: str) -> Answer:
        """The verdict that a page sent.

        Raises:
            HTTPException: If the study has no such verdict.
        """
        found = next((one for one in self.workspace.answers if one.word == word), None)
        if found is None:
            known = ", ".join(one.word for one in self.workspace.answers)
            raise HTTPException(422, f"There is no verdict {word!r} in this study; expected one of {known}.")
        return found

    def slide(self, number: int) -> ReviewSlide:
        """A slide.

        Raises:
            HTTPException: If there is none of this number.
        """
        if number >= len(self.workspace.slides):
            raise HTTPException(404, f"There is no slide {number}; there are {len(self.workspace.slides)}.")
        return self.workspace.slides[number]

    def square(self, number: int, instance: int) -> Rectangle:
        """Where a patch is on its slide.

        Raises:
            HTTPException: If there is no such slide or patch.
        """
        slide = self.slide(number)
        item = self._queue.get((number, instance))
        if item is not None:
            return Rectangle(item.x, item.y, item.size, item.size)
        if instance >= slide.n_patches or slide.size_level0 == 0:
            raise HTTPException(404, f"There is no patch {instance} on slide {number}.")
        x, y = (int(one) for one in self.workspace.patches(number).coords[instance])
        return Rectangle(x, y, slide.size_level0, slide.size_level0)

    @cached_property
    def _queue(self) -> dict[tuple[int, int], QueueItem]:
        """The patches of the queue by slide and number: their places need not be read from a file."""
        return {(one.slide, one.instance): one for one in self.workspace.queue}

    def judged_patch(self, number: int, instance: int) -> JudgedPatch:
        """A patch as the store knows it.

        Raises:
            HTTPException: If there is no such slide or patch.
        """
        square = self.square(number, instance)
        return JudgedPatch(self.slide(number).slide_id, square.x, square.y, square.width)

    def numbers_of(self, patch: JudgedPatch) -> tuple[int, int] | None:
        """Numbers of the slide and the patch at a place; None if the study has no patch there now."""
        numbers = (i for i, one in enumerate(self.workspace.slides) if one.slide_id == patch.slide_id)
        slide = next(numbers, None)
        if slide is None or self.workspace.slides[slide].size_level0 != patch.size:
            return None
        coords = self.workspace.patches(slide).coords
        found = np.flatnonzero((coords == (patch.x, patch.y)).all(axis=1))
        return (slide, int(found[0])) if len(found) else None


def checked_name(text: str) -> str | None:
    """The name of a reviewer, without spaces around it; None if it cannot be one."""
    name = " ".join(text.split())
    return name if 0 < len(name) <= MOST_NAME_CHARS and name.isprintable() else None


def name_in_cookie(request: Request) -> str | None:
    """The name of the reviewer who uses this browser; None if it was not given yet."""
    return checked_name(unquote(request.cookies.get(REVIEWER_COOKIE, "")))


def _reviewer(request: Request) -> str:
    name = name_in_cookie(request)
    if name is None:
        raise HTTPException(403, "The name of the reviewer is missing. Load the page again and enter it.")
    return name


Reviewer = Annotated[str, Depends(_reviewer)]


def same_study(context: ReviewContext) -> DependsParameter:
    """A dependency of routes that write: the page must be of this study and this evaluation."""
    expected = context.identity

    def check(study: Annotated[str, Header(alias="x-study", max_length=64)]) -> None:
        if study != expected:
            raise HTTPException(
                409, "This page shows another study or another evaluation than the server. Load it again."
            )

    return Depends(check)

"""The templates of the pages, and what every page shows."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from hardmil.report.templating import template_environment
from hardmil.review.context import ReviewContext, name_in_cookie
from hardmil.review.security import CSRF_COOKIE, csrf_token

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
VIEWER = STATIC / "vendor" / "openseadragon.min.js"
"""Put there by `make openseadragon`."""


def render(template: str, values: Mapping[str, object]) -> str:
    """The text that a template of the folder gives with these values."""
    return _environment().get_template(template).render(**values)


def page(
    request: Request, template: str, *, context: ReviewContext, status: int = 200, **values: object
) -> HTMLResponse:
    """A page as the answer to a request; with it, the browser gets the token for what it saves."""
    csrf = csrf_token(request)
    shared: dict[str, object] = {
        "csrf": csrf,
        "identity": context.identity,
        "study": context.workspace.study.folder.resolve().name,
        "reviewer": name_in_cookie(request),
        "here": "",
        "answers": context.workspace.answers,
        "class_titles": context.class_titles,
        "is_multi_label": context.workspace.held_out.task.multi_label,
        "chosen": None,
    }
    answer = HTMLResponse(render(template, shared | values), status_code=status)
    answer.set_cookie(CSRF_COOKIE, csrf, httponly=True, samesite="strict", path="/")
    return answer


@cache
def _environment() -> jinja2.Environment:
    return template_environment(TEMPLATES)

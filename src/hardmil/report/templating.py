"""Shared by all pages: template folder, style sheet, and formats of numbers and pictures."""

import base64
import math
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from hardmil.files.atomic import write_atomically
from hardmil.pictures.drawing import compact_picture

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, **values: object) -> str:
    """The page that a template of the folder gives with these values, as text."""
    return _environment().get_template(template).render(**values)


def template_environment(folder: Path) -> jinja2.Environment:
    """The templates of a folder, with the formats of numbers that all pages share."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed}
    return environment


def _environment() -> jinja2.Environment:
    """The report templates with the filters they use; `style` is the style sheet of every page."""
    environment = template_environment(TEMPLATES)
    environment.filters |= {
        "share": _percent,
        "picture": picture_uri,
        "drawing": drawing_uri,
        "url": quote,
    }
    environment.globals["style"] = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    return environment


def write_page(path: Path, text: str) -> None:
    """Write a page; the file is complete or not there.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with write_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")


def number(value: float) -> str:
    """Three decimals; an en dash if undefined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three decimals with a sign; an en dash if undefined."""
    # U+2212, the minus sign: lines may break after a hyphen.
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "\u2212")


def picture_uri(picture: bytes) -> str:
    """A picture file as a data URI, compressed."""
    kind, content = compact_picture(picture)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def drawing_uri(svg: str) -> str:
    """An SVG drawing as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"

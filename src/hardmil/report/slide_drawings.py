"""All pictures of slides on a report; each slide is opened once for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hardmil.errors import SlideError
from hardmil.pictures.bag_heatmap import draw_heatmap
from hardmil.pictures.drawing import compact_picture
from hardmil.pictures.heatmap import SlideAttention
from hardmil.pictures.patch_pictures import GalleryItem, GalleryPicture, draw_item
from hardmil.pictures.slide_pictures import SlidePictures, slide_pictures
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide

MAX_BYTES = 2_000_000
"""Size of the small pictures of wrongly called slides; on the page, as base64, they are a third larger."""

NO_PATH = "the table has no path for this slide"
NO_ROOM = "left out to keep the page small"


@dataclass
class PictureRequest:
    """The pictures that a report needs of one slide: small pictures, a large heat map, patches.

    `items` are for the gallery of hard negatives; `mined` are shown next to the small pictures.
    """

    slide_id: str
    shown: SlideAttention | None = None
    small: bool = False
    large: bool = False
    items: list[GalleryItem] = field(default_factory=list)
    mined: list[GalleryItem] = field(default_factory=list)


@dataclass
class DrawnPictures:
    """The pictures for a request; `why_not` says why pictures are missing."""

    small: SlidePictures | None = None
    large: bytes | None = None
    items: dict[GalleryItem, GalleryPicture] = field(default_factory=dict)
    mined: list[GalleryPicture] = field(default_factory=list)
    why_not: str = ""

    @property
    def n_bytes(self) -> int:
        """Size of the small pictures."""
        pictures = 0 if self.small is None else self.small.n_bytes
        return pictures + sum(len(one.patch or b"") for one in self.mined)


def draw_slides(
    requests: Sequence[PictureRequest], *, paths: Mapping[str, Path | None], max_bytes: int = MAX_BYTES
) -> dict[str, DrawnPictures]:
    """The pictures of each slide; no more small ones once they have `max_bytes`.

    For a slide without a path, or that cannot be read, the reason takes their place: the report goes on.
    """
    found: dict[str, DrawnPictures] = {}
    for request in requests:
        has_room = sum(one.n_bytes for one in found.values()) < max_bytes
        found[request.slide_id] = _drawn(request, path=paths.get(request.slide_id), has_room=has_room)
    return found


def _drawn(request: PictureRequest, *, path: Path | None, has_room: bool) -> DrawnPictures:
    wants_small = request.small and has_room
    if not (wants_small or request.large or request.items):
        return DrawnPictures(why_not=NO_ROOM)
    drawn = DrawnPictures(why_not=NO_PATH if path is None else "" if has_room else NO_ROOM)
    if path is not None:
        try:
            with open_slide(path) as slide:
                _draw(slide, request, drawn=drawn, wants_small=wants_small)
        except SlideError as error:
            drawn.why_not = str(error).replace(str(path), f"slide {request.slide_id}")
    for item in request.items:
        drawn.items.setdefault(item, GalleryPicture(item, None, None, drawn.why_not))
    return drawn


def _draw(slide: Slide, request: PictureRequest, *, drawn: DrawnPictures, wants_small: bool) -> None:
    if wants_small and request.shown is not None:
        drawn.small = slide_pictures(slide, request.shown)
        drawn.mined = [_patch_alone(draw_item(item, slide=slide)) for item in request.mined]
    if request.large and request.shown is not None:
        drawn.large = draw_heatmap(slide, request.shown)
    for item in request.items:
        drawn.items[item] = draw_item(item, slide=slide)


def _patch_alone(picture: GalleryPicture) -> GalleryPicture:
    patch = None if picture.patch is None else compact_picture(picture.patch)[1]
    return GalleryPicture(picture.item, patch, None, picture.why_not)

"""All pictures that a report has of slides: each slide is opened once, for all that is wanted of it."""

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
"""Of the small pictures of wrongly called slides; as text on the page they take a third more."""

NO_PATH = "the table has no path for this slide"
NO_ROOM = "left out to keep the page small"


@dataclass
class PictureRequest:
    """What a report wants of one slide: small pictures, a large heat map, patches.

    `items` go into the gallery of hard negatives; `mined` stand beside the small pictures.
    """

    slide_id: str
    shown: SlideAttention | None = None
    small: bool = False
    large: bool = False
    items: list[GalleryItem] = field(default_factory=list)
    mined: list[GalleryItem] = field(default_factory=list)


@dataclass
class DrawnPictures:
    """What came of a wish; `why_not` says in words why pictures are missing."""

    small: SlidePictures | None = None
    large: bytes | None = None
    items: dict[GalleryItem, GalleryPicture] = field(default_factory=dict)
    mined: list[GalleryPicture] = field(default_factory=list)
    why_not: str = ""

    @property
    def n_bytes(self) -> int:
        """What the small pictures take."""
        pictures = 0 if self.small is None else self.small.n_bytes
        return pictures + sum(len(one.patch or b"") for one in self.mined)


def draw_slides(
    wishes: Sequence[PictureRequest], *, paths: Mapping[str, Path | None], most_bytes: int = MAX_BYTES
) -> dict[str, DrawnPictures]:
    """The pictures of each slide, wish by wish; once `most_bytes` are taken, no more small ones are made.

    A slide without a path, or that cannot be read, has words in their place: the report goes on.
    """
    found: dict[str, DrawnPictures] = {}
    for wish in wishes:
        has_room = sum(one.n_bytes for one in found.values()) < most_bytes
        found[wish.slide_id] = _drawn(wish, path=paths.get(wish.slide_id), has_room=has_room)
    return found


def _drawn(wish: PictureRequest, *, path: Path | None, has_room: bool) -> DrawnPictures:
    wants_small = wish.small and has_room
    if not (wants_small or wish.large or wish.items):
        return DrawnPictures(why_not=NO_ROOM)
    drawn = DrawnPictures(why_not=NO_PATH if path is None else "" if has_room else NO_ROOM)
    if path is not None:
        try:
            with open_slide(path) as slide:
                _draw(slide, wish, drawn=drawn, wants_small=wants_small)
        except SlideError as error:
            drawn.why_not = str(error)
    for item in wish.items:
        drawn.items.setdefault(item, GalleryPicture(item, None, None, drawn.why_not))
    return drawn


def _draw(slide: Slide, wish: PictureRequest, *, drawn: DrawnPictures, wants_small: bool) -> None:
    if wants_small and wish.shown is not None:
        drawn.small = slide_pictures(slide, wish.shown)
        drawn.mined = [_patch_alone(draw_item(item, slide=slide)) for item in wish.mined]
    if wish.large and wish.shown is not None:
        drawn.large = draw_heatmap(slide, wish.shown)
    for item in wish.items:
        drawn.items[item] = draw_item(item, slide=slide)


def _patch_alone(picture: GalleryPicture) -> GalleryPicture:
    patch = None if picture.patch is None else compact_picture(picture.patch)[1]
    return GalleryPicture(picture.item, patch, None, picture.why_not)

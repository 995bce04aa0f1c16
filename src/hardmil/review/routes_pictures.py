"""Pictures of patches and slides, and tiles. Numbers are looked up in the study, never used as paths."""

from fastapi import APIRouter, HTTPException, Response

from hardmil.review.context import Number, ReviewContext
from hardmil.review.slide_pictures import SMALL_PX


def picture_routes(context: ReviewContext) -> APIRouter:
    """The routes of all pictures."""
    routes = APIRouter(prefix="/pictures", responses={200: {"content": {"image/jpeg": {}}}})
    pictures = context.pictures

    @routes.get("/{slide}/patches/{instance}/patch.jpg", response_class=Response)
    def patch(slide: Number, instance: Number) -> Response:
        return _jpeg(pictures.patch(slide, square=context.square(slide, instance)))

    @routes.get("/{slide}/patches/{instance}/small.jpg", response_class=Response)
    def small(slide: Number, instance: Number) -> Response:
        return _jpeg(pictures.patch(slide, square=context.square(slide, instance), edge_px=SMALL_PX))

    @routes.get("/{slide}/patches/{instance}/surroundings.jpg", response_class=Response)
    def surroundings(slide: Number, instance: Number) -> Response:
        return _jpeg(pictures.surroundings(slide, square=context.square(slide, instance)))

    @routes.get("/{slide}/thumbnail.jpg", response_class=Response)
    def thumbnail(slide: Number) -> Response:
        context.slide(slide)
        return _jpeg(pictures.thumbnail(slide))

    @routes.get("/{slide}/tiles/{level}/{column}_{row}.jpg", response_class=Response)
    def tile(slide: Number, level: Number, column: Number, row: Number) -> Response:
        context.slide(slide)
        found = pictures.tile(slide, level=level, column=column, row=row)
        if found is None:
            raise HTTPException(404, f"There is no tile {column}, {row} at level {level} of slide {slide}.")
        return _jpeg(found)

    return routes


def _jpeg(content: bytes) -> Response:
    return Response(content, media_type="image/jpeg")

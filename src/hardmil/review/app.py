"""The web application: its routes, who may use it, and what it answers to errors."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from hardmil.errors import BusyError, HardmilError, SlideError, StoreError
from hardmil.files.shown_paths import without_home
from hardmil.review.background import BackgroundCommand
from hardmil.review.context import ReviewContext
from hardmil.review.routes_pages import page_routes
from hardmil.review.routes_pictures import picture_routes
from hardmil.review.routes_progress import progress_routes
from hardmil.review.routes_slides import slide_routes
from hardmil.review.routes_verdicts import reviewer_routes, verdict_routes
from hardmil.review.security import Access, Guard
from hardmil.review.slide_pictures import SlidePictures
from hardmil.review.templating import STATIC, page
from hardmil.review.workspace import Workspace

STATUS = {SlideError: 404, BusyError: 409, StoreError: 503}
"""Status of an error by its class; 400 for others."""
DATA = ("/api/", "/pictures/", "/export/", "/static/")
"""Paths whose errors are answered as data, and not as a page."""


def create_app(workspace: Workspace, *, access: Access, retraining: BackgroundCommand) -> FastAPI:
    """The application that shows a workspace and saves verdicts in it.

    Args:
        workspace: The study under review, open.
        access: Who may use it.
        retraining: The command that trains with the verdicts; started by a page.
    """
    pictures = SlidePictures([slide.path for slide in workspace.slides])
    context = ReviewContext(workspace, pictures, retraining)
    # Without pages about the routes: they load scripts from elsewhere.
    app = FastAPI(title="hardmil review", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(reviewer_routes())
    for routes in (page_routes, picture_routes, slide_routes, verdict_routes, progress_routes):
        app.include_router(routes(context))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(Guard, access=access)
    app.state.context = context

    @app.exception_handler(HardmilError)
    def fixable(request: Request, error: HardmilError) -> Response:
        kinds = (status for kind, status in STATUS.items() if isinstance(error, kind))
        return _answer(request, context, status=next(kinds, 400), message=without_home(str(error)))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 303:
            return RedirectResponse((error.headers or {})["location"], status_code=303)
        return _answer(request, context, status=error.status_code, message=str(error.detail))

    return app


def _answer(request: Request, context: ReviewContext, *, status: int, message: str) -> Response:
    if request.url.path.startswith(DATA):
        return JSONResponse({"detail": message}, status_code=status)
    heading = "Not found" if status == 404 else "This did not work"
    return page(request, "error.html.jinja", context=context, status=status, heading=heading, message=message)

"""Who may use the server: checked for every request, before any route.

The server is for the browser of one person, or of a few who know its token. Other web pages that this browser
shows must not read from it or write to it, also where a name they control leads to this machine (DNS
rebinding). Slides are patients' data: answers are not kept on disk by the browser.
"""

import ipaddress
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})
CSRF_COOKIE = "hardmil_csrf"
CSRF_HEADER = "x-csrf-token"
READING = frozenset({"GET", "HEAD"})
MOST_BODY_BYTES = 1 << 20
MOST_IMPORT_BYTES = 64 << 20
IMPORT_PATH = "/api/import"
MOST_URL_CHARS = 2_000
MOST_PORT = 65_535

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Names under which the server may be addressed, and the token that it asks for, if any.

    With `any_ip`, addresses of numbers are allowed too: DNS rebinding needs a name.
    """

    hosts: frozenset[str] = LOOPBACK
    token: str | None = None
    any_ip: bool = False

    def is_known(self, host: str) -> bool:
        """Whether a name in a Host header is allowed; its port does not matter."""
        found = _HOST.fullmatch(host)
        if found is None or int(found["port"] or 0) > MOST_PORT:
            return False
        name = found["name"].strip("[]").lower()
        return name in self.hosts or (self.any_ip and _is_ip(name))


class Guard:
    """Refuses requests that did not come from a page of this server; adds headers to every answer."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = _refusal(Request(scope), access=self._access) or self._app
            await answer(scope, receive, _with_headers(send))


def csrf_token(request: Request) -> str:
    """The token that pages send back with a write: the one in the cookie, or a new one.

    It is tied to the browser and not to this process: a page that was open while the server was started again
    can still save its verdicts.
    """
    found = request.cookies.get(CSRF_COOKIE, "")
    return found if len(found) >= 32 else secrets.token_urlsafe(32)


def token_cookie(request: Request) -> str:
    """Name of the cookie with the access token; by port, since cookies do not distinguish ports."""
    return f"hardmil_token_{request.url.port or 80}"


def _refusal(request: Request, *, access: Access) -> Response | None:
    """The answer to a request that is refused, or that hands over the token; None for others."""
    if not access.is_known(request.headers.get("host", "")):
        return _refused(
            421, "This name does not belong to the server. Open the address that it printed at its start."
        )
    if len(str(request.url)) > MOST_URL_CHARS:
        return _refused(414, "The address is too long.")
    return _token_answer(request, access=access) or _refused_write(request)


def _token_answer(request: Request, *, access: Access) -> Response | None:
    if access.token is None:
        return None
    given = request.query_params.get("token")
    if given is not None and request.method in READING and _is_same(given, access.token):
        rest = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
        # A path of two slashes would lead to another server.
        target = "/" + request.url.path.lstrip("/") + (f"?{urlencode(rest)}" if rest else "")
        answer = RedirectResponse(target, status_code=303)
        answer.set_cookie(token_cookie(request), given, httponly=True, samesite="strict", path="/")
        return answer
    if _is_same(request.cookies.get(token_cookie(request), ""), access.token):
        return None
    return _refused(
        403, "The token is missing or wrong. Open the address that the server printed at its start."
    )


def _refused_write(request: Request) -> Response | None:
    if request.method in READING:
        return None
    origin = request.headers.get("origin", "")
    if origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        return _refused(403, "The request came from another page than those of this server.")
    cookie = request.cookies.get(CSRF_COOKIE, "")
    if len(cookie) < 32 or not _is_same(request.headers.get(CSRF_HEADER, ""), cookie):
        return _refused(403, "The page is too old to save from. Load it again.")
    try:
        n_bytes = int(request.headers["content-length"])
    except (KeyError, ValueError):
        return _refused(411, "The length of the content is missing.")
    most = MOST_IMPORT_BYTES if request.url.path == IMPORT_PATH else MOST_BODY_BYTES
    if n_bytes > most:
        return _refused(413, f"The content has {n_bytes:,} bytes; at most {most:,} are taken.")
    return None


def _refused(status: int, reason: str) -> Response:
    return PlainTextResponse(f"hardmil review: {reason}\n", status_code=status)


def _is_same(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending

"""The server of `hardmil review`: its address, the browser, its end."""

import secrets
import socket
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hardmil.errors import ConfigError
from hardmil.stopping import undone_at_stop

if TYPE_CHECKING:
    from hardmil.review.workspace import Workspace

PACKAGES = ("fastapi", "uvicorn")
LOOPBACK_ADDRESS = "127.0.0.1"
SHORTEST_TOKEN = 16
GRACE_S = 1
"""How long requests in progress may take once the server is to end."""


@dataclass(frozen=True)
class ServerOptions:
    """Where the server listens, and whether a browser is opened. Port 0: a free one.

    Without a token, one is made if the host is not this machine alone.
    """

    host: str = LOOPBACK_ADDRESS
    port: int = 0
    token: str | None = None
    browser: bool = True


def check_server(options: ServerOptions) -> None:
    """Check that a server can be started.

    Raises:
        ConfigError: If a package is missing, or the token is short.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"hardmil review needs {' and '.join(missing)}, not installed here; install with "
            "pip install 'hardmil[review]'; --export, --import and --retrain work without"
        )
    if options.token is not None and len(options.token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"--token has {len(options.token)} characters; expected at least {SHORTEST_TOKEN}; leave it out, "
            "and one is made"
        )


def serve_review(workspace: "Workspace", options: ServerOptions, *, arguments: Sequence[str]) -> None:
    """Serve the pages of a review until the process is stopped.

    Args:
        workspace: The review, open.
        options: Where to listen.
        arguments: Those of `hardmil review` that the retraining needs: study, evaluation, settings.

    Raises:
        ConfigError: If the address cannot be used.
    """
    import uvicorn

    from hardmil.review.app import create_app
    from hardmil.review.background import BackgroundCommand
    from hardmil.review.security import ANY_ADDRESS, LOOPBACK, Access

    token = options.token
    if token is None and options.host not in LOOPBACK:
        token = secrets.token_urlsafe(32)
    any_ip = options.host in ANY_ADDRESS
    names = {options.host.lower()} | ({socket.gethostname().lower()} if any_ip else set())
    access = Access(LOOPBACK | names, token=token, any_ip=any_ip)
    retraining = BackgroundCommand("hardmil", arguments=["review", *arguments, "--retrain"])
    app = create_app(workspace, access=access, retraining=retraining)
    listening = _listen(options)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        # Addresses in forwarding headers are not believed: nothing is in front of this server.
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    address = _address(options, port=listening.getsockname()[1], token=token)
    with undone_at_stop(workspace.close), undone_at_stop(retraining.stop):
        # Not in the main thread: there, the server would take over Ctrl-C, which ends the process as it
        # ends all commands.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        print(f"review: {address}\nstop it with Ctrl-C", flush=True)
        if options.browser:
            webbrowser.open(address)
        thread.join()


def _listen(options: ServerOptions) -> socket.socket:
    """An open socket; connections wait in it until they are answered.

    Raises:
        ConfigError: If the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((options.host, options.port), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--host {options.host} --port {options.port}: cannot listen there ({reason}); expected an "
            "address of this machine and a free port; leave out --port to take a free one"
        ) from error


def _address(options: ServerOptions, *, port: int, token: str | None) -> str:
    from hardmil.review.security import ANY_ADDRESS

    host = LOOPBACK_ADDRESS if options.host in ANY_ADDRESS else options.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={token}" if token else "")

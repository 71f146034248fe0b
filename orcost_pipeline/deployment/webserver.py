"""Dagster's webserver, as a service of `orcost up`, protected from other web pages in the same browser.

    python -m orcost_pipeline.deployment.webserver PORT WORKSPACE [--read-only] [--listen ADDRESS] [NAME …]

Dagster answers GraphQL by GET and under any host name: an image in any page could stop the schedule, and a host name
pointed at the loopback address could read all figures. There are no users here: access control is up to a proxy.
"""

import argparse
from collections.abc import Collection
from urllib.parse import urlsplit

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from orcost_pipeline.settings import LOOPBACK

LOOPBACK_NAMES = (LOOPBACK, "localhost", "::1")
STATEMENT_MILLISECONDS = 15_000  # these three are the defaults of the dagster-webserver command
POOL_SECONDS, POOL_OVERFLOW = 3_600, 20
POLL_MILLISECONDS = 2_000

_WRONG_NAME = "orcost up does not answer to this name. A proxy's name is given to it: orcost up --host NAME\n"
_CROSS_SITE = "Refused: another web page asked for this. Do it in Dagster's own pages.\n"
_BY_GET = "Refused: GraphQL is answered by POST only, because any web page can have a browser send a GET.\n"


class Gate:
    """Admits requests of Dagster's own pages, followed links, and programs that are no browser; refuses all others."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = {*LOOPBACK_NAMES, *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] in ("http", "websocket") and (refusal := self._refusal(HTTPConnection(scope))):
            app = refusal if scope["type"] == "http" else WebSocketClose()
        await app(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> PlainTextResponse | None:
        if _hostname(request.headers.get("host", "")) not in self._names:
            return PlainTextResponse(_WRONG_NAME, 421)
        if _is_cross_site(request):
            return PlainTextResponse(_CROSS_SITE, 403)
        if request.scope["path"] == "/graphql" and request.scope.get("method", "POST") != "POST":
            return PlainTextResponse(_BY_GET, 403)
        return None


def _hostname(netloc: str) -> str | None:
    """The host name without its port, which a tunnel may change; None for an invalid one."""
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None


def _is_cross_site(request: HTTPConnection) -> bool:
    """Whether a page of another origin made the browser send the request; another port is another origin.

    Every browser sends `Origin` with a POST and a WebSocket, newer ones `Sec-Fetch-Site` with every request. A link
    that opens a page of Dagster is harmless: it changes nothing, and the other page cannot read it. A frame is not:
    clicks could be stolen.
    """
    headers = request.headers
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers["host"]:
        return True
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    is_link = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return not (is_link and request.scope.get("method") == "GET")


def main() -> None:
    """Serves until terminated; on the loopback address, unless it is the only process of a container."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("workspace")
    parser.add_argument("names", nargs="*", help="host names of proxies in front")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--listen", default=LOOPBACK)
    asked = parser.parse_intermixed_args()
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_MILLISECONDS, POOL_SECONDS, POOL_OVERFLOW)
        with WorkspaceProcessContext(
            instance, WorkspaceFileTarget([asked.workspace]), __version__, asked.read_only
        ) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=POLL_MILLISECONDS)
            app.add_middleware(Gate, names=asked.names)
            uvicorn.run(app, host=asked.listen, port=asked.port, log_level="warning")


if __name__ == "__main__":
    main()

"""A webhook on a real port: what it was sent, and how it answers."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Posted(NamedTuple):
    """One message as Apprise's JSON service posts it."""

    title: str
    message: str
    type: str


class Webhook:
    """Records what it is sent while `status` is 200; answers `status` after `delay` seconds."""

    def __init__(self) -> None:
        self.status, self.delay = 200, 0.0
        self.posted: list[Posted] = []
        self.fetched: list[str] = []
        self.attempts = 0
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.attempts += 1
                if webhook.status == 200:
                    webhook.posted.append(Posted(body["title"], body["message"], body["type"]))
                self._answer()

            def do_GET(self) -> None:
                webhook.fetched.append(self.path)
                self._answer()

            def _answer(self) -> None:
                time.sleep(webhook.delay)
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = self._server.server_address[1]

    def __enter__(self) -> "Webhook":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its Apprise URL, with a password and a path that nobody may repeat."""
        return f"json://user:s3cret-password@127.0.0.1:{self.port}/s3cret-token"

    def taken(self) -> list[Posted]:
        """What was posted since the last call."""
        posted, self.posted = self.posted, []
        return posted

"""The simulator on a real port of 127.0.0.1: sockets, keep-alive, real resets and hangs. No answer is made here."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import httpx

from orcost_pipeline.simulator.api import Simulator
from orcost_pipeline.simulator.faults import BASE_PATH, CutBody, Drip, Garbled, Hang

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
PIECES = 40


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Idle keep-alive connections would hold the shutdown up.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, simulator: Simulator, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.simulator = simulator
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: a client that goes away is no news."""

    def hang_up(self) -> None:
        """Closes what is still kept alive."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body in one packet: otherwise delayed ACKs cost 40 ms an answer.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        request = self._request()
        try:
            self._send(self._simulator.handle(request))
        except Drip as drip:
            self._drip(self._simulator.answer(request), drip.seconds)
        except Hang as hang:
            time.sleep(hang.seconds)
            self._send(self._simulator.answer(request))
        except CutBody:
            self._cut(self._simulator.answer(request))
        except Garbled:
            self._send(self._simulator.answer(request), {"Content-Encoding": "gzip"})
        except httpx.TransportError:
            self._reset()

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
        """Quiet: `Simulator.requests` is the log."""

    @property
    def _simulator(self) -> Simulator:
        return cast(_Server, self.server).simulator

    def _request(self) -> httpx.Request:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = f"http://{self.headers.get('Host', '127.0.0.1')}{self.path}"
        return httpx.Request(self.command, url, headers=list(self.headers.items()), content=content)

    def _send(self, response: httpx.Response, headers: Mapping[str, str] | None = None) -> None:
        self._send_head(response, headers)
        self.wfile.write(response.content)

    def _send_head(self, response: httpx.Response, headers: Mapping[str, str] | None = None) -> None:
        # Unlike send_response, it adds no `Date` of the real clock.
        self.send_response_only(response.status_code)
        length = str(len(response.content))
        for name, value in {**response.headers, "content-length": length, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self, response: httpx.Response, seconds: float) -> None:
        """The answer in pieces, the last of them after `seconds`."""
        self._send_head(response)
        length = len(response.content)
        for number in range(PIECES):
            self.wfile.flush()
            time.sleep(seconds / PIECES)
            self.wfile.write(response.content[length * number // PIECES : length * (number + 1) // PIECES])

    def _cut(self, response: httpx.Response) -> None:
        self._send_head(response)
        self.wfile.write(response.content[: len(response.content) // 2])
        self.close_connection = True

    def _reset(self) -> None:
        """An RST instead of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close_connection = True
        # Python's socket closes for real only after the files made from it.
        self.rfile.close()
        self.connection.close()


@contextmanager
def serve(simulator: Simulator, port: int = 0) -> Iterator[str]:
    """Yields the base URL, `http://127.0.0.1:PORT/api/v1`; port 0 takes a free one. `OSError` when it is taken."""
    server = _Server(simulator, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{BASE_PATH}"
    finally:
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join()

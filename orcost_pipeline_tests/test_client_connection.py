"""Sockets, and what only they can do: the client on a real port."""

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import respx
from pydantic import SecretStr

from orcost_pipeline.errors import InvalidKeyError, OrcostError, PermanentError, TransientError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.connection import certificates
from orcost_pipeline.settings import DEFAULT_BASE_URL
from orcost_pipeline.simulator import Fault, Simulator, serve
from orcost_pipeline_tests.client_world import CATCHES_UP, assert_no_secret
from orcost_pipeline_tests.virtual_time import CANARY, NOON, Question, T, account_with_keys, scripted

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


def ask_port(url: str, question: Question[T], secret: str = CANARY, **options: float) -> tuple[T, int]:
    """The answer over real sockets, and the requests it took; a client of little patience."""
    options = {"backoff": 0.001, "patience": 0.3, "timeout": 5.0, **options}

    async def asked() -> tuple[T, int]:
        async with OpenRouter("acme", SecretStr(secret), url, **options) as client:
            return await question(client), client.requests_made

    return asyncio.run(asked())


WIRE = [
    (kind, times) for kind in ("reset", "502_html", "cut_json_200", "cut_body", "garbled", "503") for times in (1, 2)
]


@pytest.mark.parametrize(("kind", "times"), [*WIRE, ("hang", 1), ("drip", 1)])
def test_a_fault_on_the_wire_is_survived(kind: Any, times: int) -> None:
    ledger, _ = account_with_keys("A")
    simulator = Simulator(ledger, lambda: NOON)
    simulator.inject(Fault(kind, times=times, seconds=2))
    timeout = 0.25 if kind in ("hang", "drip") else 10
    with serve(simulator) as url:
        told, requests_made = ask_port(url, lambda client: client.credits(), timeout=timeout, patience=10)
    assert told.total_credits == 500
    assert requests_made == simulator.count == times + 1


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("reset", "closed the connection"),
        ("cut_body", "closed the connection in the middle of its answer"),
        ("garbled", "answered what cannot be decoded"),
        ("hang", "did not answer within 0.1 s"),
        ("drip", "did not answer within 0.1 s"),
    ],
)
def test_a_fault_on_the_wire_that_does_not_pass_is_named(kind: Any, what: str) -> None:
    simulator = Simulator(account_with_keys()[0], lambda: NOON)
    simulator.inject(Fault(kind, times=None, seconds=1))
    timeout = 0.1 if kind in ("hang", "drip") else 10
    with serve(simulator) as url, pytest.raises(TransientError) as caught:
        ask_port(url, lambda client: client.credits(), timeout=timeout)
    host = url.split("/")[2]
    assert str(caught.value) == f'GET /credits of account "acme": {host} {what}. {CATCHES_UP}'


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def speaker() -> Iterator[Callable[[bytes], int]]:
    """Ports at which somebody hears a request and says this, whatever was asked."""
    listeners: list[socket.socket] = []

    def open_port(said: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(said)

        threading.Thread(target=speak, daemon=True).start()
        return int(listener.getsockname()[1])

    yield open_port
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def asked_in_vain(url: str) -> OrcostError:
    with pytest.raises(OrcostError) as caught:
        ask_port(url, lambda client: client.credits())
    return caught.value


def test_a_server_that_is_not_there_is_transient(closed_port: int) -> None:
    for host in ("127.0.0.1", "localhost"):
        error = asked_in_vain(f"http://{host}:{closed_port}/api/v1")
        assert isinstance(error, TransientError)
        what = f"{host}:{closed_port} could not be reached (connection refused). {CATCHES_UP}"
        assert str(error) == f'GET /credits of account "acme": {what}'


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "sent an invalid HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "closed the connection in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "closed the connection in the middle"),
    ],
)
def test_a_peer_that_breaks_off_or_speaks_no_http_is_a_transient_error_that_says_so(
    speaker: Callable[[bytes], int], said: bytes, what: str
) -> None:
    error = asked_in_vain(f"http://127.0.0.1:{speaker(said)}/api/v1")
    assert isinstance(error, TransientError)
    assert what in str(error)


def test_a_port_that_speaks_no_tls_is_transient_and_named(speaker: Callable[[bytes], int]) -> None:
    error = asked_in_vain(f"https://127.0.0.1:{speaker(b'HTTP/1.1 400 Bad Request')}/api/v1")
    assert isinstance(error, TransientError)
    assert "could not be reached (TLS: " in str(error)


def connect_error(cause: Exception) -> httpx.ConnectError:
    """As httpx chains it: the cause behind its own error behind httpcore's."""
    error, middle = httpx.ConnectError("All connection attempts failed"), OSError("All connection attempts failed")
    middle.__cause__ = ExceptionGroup("attempts", [cause])
    error.__cause__ = middle
    return error


def refused_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.verify_message = "self-signed certificate in certificate chain"
    return error


@pytest.mark.parametrize(
    ("cause", "kind", "what"),
    [
        (socket.gaierror(-2, "Name or service not known"), TransientError, "no address is known for this name"),
        (OSError(errno.ENETUNREACH, "no"), TransientError, "network is unreachable"),
        (refused_certificate(), PermanentError, "its certificate was refused: self-signed certificate in certificate"),
    ],
    ids=["dns", "network", "certificate"],
)
def test_why_there_is_no_connection_is_named(cause: Exception, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind) as caught:
        scripted(connect_error(cause)).ask(lambda client: client.credits())
    assert f"openrouter.test could not be reached ({what}" in str(caught.value)
    assert ("SSL_CERT_FILE" in str(caught.value)) == (kind is PermanentError)


@pytest.mark.parametrize(("status", "kind"), [(407, PermanentError), (403, PermanentError), (502, TransientError)])
def test_a_proxy_that_refuses_is_named(
    speaker: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    proxy = speaker(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
    error = asked_in_vain("https://openrouter.test/api/v1")
    assert isinstance(error, kind)
    assert f"openrouter.test could not be reached through the proxy ({status})" in str(error)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "ftp://nonsense"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    error = asked_in_vain("https://openrouter.test/api/v1")
    assert isinstance(error, PermanentError)
    assert "Check HTTPS_PROXY, ALL_PROXY" in str(error)


def test_certificates_that_are_not_there_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    certificates.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    error = asked_in_vain("https://openrouter.test/api/v1")
    assert isinstance(error, PermanentError)
    assert "SSL_CERT_FILE" in str(error)


def test_this_machines_own_ports_are_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """Where a company's proxy is set for all, the demo still reaches its simulator."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve(Simulator(account_with_keys()[0], lambda: NOON)) as url:
        assert ask_port(url, lambda client: client.credits())[0].total_credits == 500


def test_eight_requests_at_most_are_under_way() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(32)))
    lock, under_way, most = threading.Lock(), 0, 0

    class Counting(Simulator):
        def handle(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.02)
            with lock:
                under_way -= 1
            return super().handle(request)

    with serve(Counting(ledger, lambda: NOON)) as url:
        told, _ = ask_port(url, lambda client: asyncio.gather(*(client.api_key(key) for key in keys)))
    assert [key.hash for key in told if key] == keys
    assert 2 <= most <= 8


@pytest.mark.slow
def test_a_failure_among_questions_under_way_leaves_no_noise_behind() -> None:
    """Connections that were just being opened are closed: Python would warn of each on stderr."""
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(20)))
    simulator = Simulator(ledger, lambda: NOON)
    with serve(simulator) as url, warnings.catch_warnings(record=True) as noise:
        warnings.simplefilter("always")
        for number in range(24):
            simulator.clear_faults()
            simulator.inject(Fault("401", times=None, match=f"/keys/{keys[number % 8]}"))
            with pytest.raises(InvalidKeyError):
                ask_port(url, lambda client: asyncio.gather(*(client.api_key(key) for key in keys)))
        gc.collect()
    assert [str(one.message) for one in noise if not issubclass(one.category, ResourceWarning)] == []


def test_the_key_is_in_no_log_of_a_real_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ledger, _ = account_with_keys("A")
    simulator = Simulator(ledger, lambda: NOON)
    simulator.inject(Fault("reset"), Fault("500"))
    with serve(simulator) as url:
        told, _ = ask_port(url, lambda client: client.workspaces())
    assert told.rows
    assert caplog.records
    assert_no_secret("".join(f"{record.getMessage()} {record.args}" for record in caplog.records))


@pytest.mark.parametrize(
    "secret",
    [CANARY, f" {CANARY}", f"{CANARY}\n", f"{CANARY} ", f"{CANARY}…", f"{CANARY[:20]}\n{CANARY[20:]}"],
    ids=ascii,
)
def test_a_key_with_white_space_around_it_works_and_one_that_cannot_be_sent_is_invalid(secret: str) -> None:
    """As a file or a mail leaves them; a network that is down is not to blame."""
    ledger, _ = account_with_keys("A")
    with serve(Simulator(ledger, lambda: NOON)) as url:
        if secret.strip() == CANARY:
            assert ask_port(url, lambda client: client.credits(), secret)[0].total_credits == 500
        else:
            with pytest.raises(InvalidKeyError, match="Invalid API key"):
                ask_port(url, lambda client: client.credits(), secret)


@pytest.mark.parametrize(
    "url",
    [
        "openrouter.ai/api/v1",
        "https://open router:x/api/v1",
        "htps://openrouter.ai/api/v1",
        f"https://{'o' * 64}.ai/api/v1",
        f"https://me:{CANARY}@openrouter.ai/api/v1",
        f"https://me:{CANARY}/x@openrouter.ai/api/v1",
        f"https://{'o' * 100_000}/",
        CANARY,
    ],
)
def test_a_base_url_that_is_none_is_permanent_and_shows_no_secret(url: str) -> None:
    with pytest.raises(PermanentError, match=r'The base URL of account "acme" is not a valid http') as caught:
        ask_port(url, lambda client: client.credits())
    assert "Check OPENROUTER_BASE_URL, or base_url in orcost.toml." in str(caught.value)
    assert_no_secret(str(caught.value))


@pytest.mark.parametrize(
    "host", ["openrouter.ai", "10.0.0.1", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]"]
)
def test_a_key_does_not_go_over_a_network_in_the_clear(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", lambda _, request: sent.append(request))
    with pytest.raises(
        PermanentError, match=r'^The key of account "acme" was not sent: http://.* is not encrypted'
    ) as caught:
        ask_port(f"http://{host}/api/v1", lambda client: client.credits())
    assert "Use https://. Check OPENROUTER_BASE_URL, or base_url in orcost.toml." in str(caught.value)
    assert not sent


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_this_machine_is_asked_in_the_clear_and_without_a_proxy(
    host: str, closed_port: int, speaker: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxy = speaker(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
    error = asked_in_vain(f"http://{host}:{closed_port}/api/v1")
    assert f"{host}:{closed_port} could not be reached" in str(error)
    assert "proxy" not in str(error)


@pytest.mark.parametrize("secret", ["", "  \n"])
def test_an_empty_key_is_invalid_and_not_sent(secret: str) -> None:
    with pytest.raises(InvalidKeyError, match=r'^Invalid API key: the key of account "acme" is empty\.\n'):
        ask_port("http://127.0.0.1:9/api/v1", lambda client: client.credits(), secret)


@respx.mock(base_url=DEFAULT_BASE_URL)
def test_the_default_is_openrouter_itself_asked_by_bearer_key(respx_mock: respx.MockRouter) -> None:
    ledger, _ = account_with_keys("A")
    simulator = Simulator(ledger, lambda: NOON)
    route = respx_mock.get("/workspaces").mock(side_effect=simulator.handle)
    ((workspace,), _), _ = ask_port(DEFAULT_BASE_URL, lambda client: client.workspaces())
    assert workspace.name == "Default"
    assert route.calls.last.request.headers["Authorization"] == f"Bearer {CANARY}"
    assert str(route.calls.last.request.url) == f"{DEFAULT_BASE_URL}/workspaces?offset=0&limit=100"

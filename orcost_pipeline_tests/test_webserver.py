"""The gate of Dagster's webserver: what other web pages try through a browser is refused, what Dagster's own do works.

The webserver is the real one, with our definitions, in a process of its own; so is the browser, where there is one.
"""

import base64
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket

from orcost_pipeline.cli import app
from orcost_pipeline.deployment import orcost_up
from orcost_pipeline_tests.processes import CHECKOUT, clean_environment, eventually, free_port
from orcost_pipeline_tests.sampling import sampled

PUBLIC = "costs.example.com"
SCHEDULE = """{schedulesOrError(repositorySelector: {repositoryName: "__repository__",
repositoryLocationName: "orcost_pipeline"}) {... on Schedules {results {scheduleState {id status}}}}}"""
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Posts what it saw to where it came from, once all attempts had their time.
HOSTILE = """<body><iframe name=nowhere></iframe><script>
const dagster = "http://127.0.0.1:%(port)d", stop = %(stop)s
const url = dagster + "/graphql?query=" + encodeURIComponent(stop)
const body = JSON.stringify({query: stop}), seen = {}
const step = (name, attempt) => attempt().then(it => seen[name] = it, error => seen[name] = "failed")
const form = document.createElement("form")
form.action = url; form.method = "post"; form.target = "nowhere"; document.body.append(form); form.submit()
Promise.all([
  step("image", () => new Promise(done => {const it = new Image(); it.onload = it.onerror = done; it.src = url})
    .then(() => "asked")),
  step("post", () => fetch(url, {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body})
    .then(it => it.type)),
  step("read", () => fetch(dagster + "/server_info").then(it => it.text())),
  step("script", () => new Promise((done, failed) => {const it = document.createElement("script")
    it.onload = done; it.onerror = failed; it.src = dagster + "/robots.txt"; document.body.append(it)})),
  step("websocket", () => new Promise((done, failed) => {
    const it = new WebSocket(dagster.replace("http", "ws") + "/graphql", "graphql-ws")
    it.onerror = failed
    it.onopen = () => {
      it.send(JSON.stringify({type: "connection_init", payload: {}}))
      it.send(JSON.stringify({type: "start", id: "1", payload: {query: stop}}))
      setTimeout(() => done("open"), 1000)
    }})),
]).then(() => setTimeout(() => fetch("/seen", {method: "POST", body: JSON.stringify(seen)}), 1000))
</script>"""


@dataclass
class Served:
    """Dagster's webserver behind the gate, on a port of this machine."""

    port: int

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        """Status and body; headers are named with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def query(self, text: str, **headers: str) -> tuple[int, str]:
        return self.ask("POST", "/graphql", json.dumps({"query": text}), Content_Type="application/json", **headers)

    def schedule(self) -> dict[str, Any]:
        """`id` and `status` of the hourly schedule."""
        status, told = self.query(SCHEDULE)
        assert status == 200
        return json.loads(told)["data"]["schedulesOrError"]["results"][0]["scheduleState"]

    def stop_query(self) -> str:
        return f'mutation {{stopRunningSchedule(id: "{self.schedule()["id"]}") {{__typename}}}}'

    def opens_websocket(self, host: str = "", **headers: str) -> bool:
        """Whether a subscription may begin; it may not where the handshake is answered by a refusal."""
        options: dict[str, Any] = {
            "additional_headers": {name.replace("_", "-"): value for name, value in headers.items()},
            "subprotocols": ["graphql-ws"],
            "sock": socket.create_connection(("127.0.0.1", self.port)),
        }
        with suppress(InvalidStatus), connect_websocket(f"ws://{host or self.name}/graphql", **options) as subscription:
            subscription.send('{"type": "connection_init", "payload": {}}')
            return json.loads(subscription.recv(10)) == {"type": "connection_ack"}
        return False


@contextmanager
def webserver(folder: Path, *arguments: str) -> Iterator[Served]:
    """The webserver of `orcost up` over a home of its own."""
    port = free_port()
    workspace = "load_from:\n  - python_module:\n      module_name: orcost_pipeline.definitions\n"
    (folder / "workspace.yaml").write_text(f"{workspace}      location_name: orcost_pipeline\n")
    (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    command = [sys.executable, "-m", "orcost_pipeline.deployment.webserver", str(port), "workspace.yaml", *arguments]
    environment = {**clean_environment(), "PYTHONPATH": str(CHECKOUT), "DAGSTER_HOME": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    one = Served(port)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return one.ask("GET", "/server_info")[0] == 200
        except ConnectionError:
            return False

    try:
        assert eventually(answers, 120), (folder / "log").read_text()
        yield one
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with webserver(tmp_path_factory.mktemp("served"), PUBLIC) as one:
        yield one


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host", sampled(["127.0.0.1:3000", "localhost", "LOCALHOST:8080", "[::1]:3000", PUBLIC, f"{PUBLIC}:8443"], 2)
)
def test_loopback_and_the_name_of_a_proxy_are_answered(served: Served, host: str) -> None:
    assert served.query("{version}", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", f"evil.{PUBLIC}", "10.0.0.1", "[", ""]
)
def test_any_other_name_is_refused_whatever_is_asked(served: Served, host: str) -> None:
    told = "orcost up does not answer to this name. A proxy's name is given to it: orcost up --host NAME\n"
    assert served.query("{version}", Host=host) == (421, told)
    assert served.ask("GET", "/", Host=host) == (421, told)


def test_a_websocket_is_opened_under_those_names_only(served: Served) -> None:
    opened = {host: served.opens_websocket(host) for host in ("localhost", PUBLIC, "evil.example", "evil.example:3000")}
    assert opened == {"localhost": True, PUBLIC: True, "evil.example": False, "evil.example:3000": False}


# ── other pages ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_graphql_is_answered_by_post_only(served: Served, method: str) -> None:
    status, told = served.ask(method, "/graphql?query=%7Bversion%7D")
    assert (status, told.partition(",")[0]) == (403, "Refused: GraphQL is answered by POST only")
    assert served.ask("GET", "/graphql", Accept="text/html")[0] == 403


OTHERS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"},
]


@pytest.mark.parametrize("headers", OTHERS)
@pytest.mark.parametrize("path", ["/graphql", "/report_asset_materialization/raw/account"])
def test_what_another_page_sends_changes_nothing(served: Served, path: str, headers: dict[str, str]) -> None:
    body = json.dumps({"query": served.stop_query()})
    told = (403, "Refused: another web page asked for this. Do it in Dagster's own pages.\n")
    assert served.ask("POST", path, body, Content_Type="application/json", **headers) == told
    assert served.schedule()["status"] == "RUNNING"


@pytest.mark.parametrize("headers", OTHERS)
def test_another_page_opens_no_websocket(served: Served, headers: dict[str, str]) -> None:
    assert not served.opens_websocket(**headers)


@pytest.mark.parametrize("where", ["image", "script", "iframe", "empty"])
def test_another_page_shows_nothing_of_dagster_in_itself(served: Served, where: str) -> None:
    mode = "navigate" if where == "iframe" else "no-cors"
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": where}
    assert served.ask("GET", "/", **headers)[0] == 403


# ── Dagster's own pages, links, programs ─────────────────────────────────────────────────────────────────────────────


def test_dagsters_own_pages_links_to_them_and_programs_work(served: Served) -> None:
    own = {"Origin": f"http://{served.name}", "Sec_Fetch_Site": "same-origin"}
    proxied = {"Origin": f"https://{PUBLIC}", "Sec_Fetch_Site": "same-origin"}
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    typed = link | {"Sec_Fetch_Site": "none"}
    for host, headers in ((served.name, own), (PUBLIC, proxied), (served.name, {})):
        assert served.query("{version}", Host=host, **headers)[0] == 200
        assert served.opens_websocket(host, **headers)
    for headers in (link, typed):
        assert served.ask("GET", "/runs", **headers)[0] == 200


# ── a proxy, and pages that change nothing ───────────────────────────────────────────────────────────────────────────


def test_up_hands_its_options_to_the_webserver(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []
    monkeypatch.setattr(orcost_up, "up", lambda settings, port, web: handed.append(web.arguments))
    for options in (["--host", PUBLIC, "--read-only"], ["--host", "A.example", "--host", "b.example"], []):
        assert CliRunner().invoke(app, ["up", *options]).exit_code == 0
    assert handed == [["--read-only", PUBLIC], ["a.example", "b.example"], []]


@contextmanager
def nginx(folder: Path, behind: Served) -> Iterator[int]:
    """The port of nginx with the configuration of deploy/, a certificate of its own, and a user `finance`."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed")
    port = free_port()
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={PUBLIC}"]
    subprocess.run([*request, "-keyout", folder / "key", "-out", folder / "pem"], check=True, capture_output=True)
    (folder / "htpasswd").write_text("finance:{PLAIN}secret\n")
    site = (CHECKOUT / "deploy" / "nginx.conf").read_text()
    for there, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/certs/costs.example.com.pem", f"{folder / 'pem'}"),
        ("/etc/ssl/private/costs.example.com.key", f"{folder / 'key'}"),
        ("auth_basic_user_file /etc/nginx/orcost.htpasswd", f"auth_basic_user_file {folder / 'htpasswd'}"),
        ("http://127.0.0.1:3000", f"http://{behind.name}"),
    ):
        assert there in site
        site = site.replace(there, here)
    # As root, its workers run as our user too, who alone can enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\nclient_body_temp_path {folder};\nproxy_temp_path {folder};\n{site}\n}}\n"
    )
    process = subprocess.Popen(
        [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        assert eventually(listens, 20), (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Team(Served):
    """The same behind a proxy that speaks TLS under the public name, with a user's password or none."""

    password: str | None = None

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        unverified = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=unverified)
        named = {name.replace("_", "-"): value for name, value in headers.items()} | self.credentials
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @property
    def credentials(self) -> dict[str, str]:
        named = {"Host": f"{PUBLIC}:{self.port}", "Origin": f"https://{PUBLIC}:{self.port}"}
        if self.password is None:
            return named
        return named | {"Authorization": f"Basic {base64.b64encode(f'finance:{self.password}'.encode()).decode()}"}

    def subscribes(self) -> bool:
        """Whether a subscription may begin."""
        encrypted = ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", self.port)))
        options: dict[str, Any] = {"sock": encrypted, "ssl": None, "subprotocols": ["graphql-ws"]}
        options["additional_headers"] = {k: v for k, v in self.credentials.items() if k != "Host"}
        with (
            suppress(InvalidStatus),
            connect_websocket(f"ws://{PUBLIC}:{self.port}/graphql", **options) as subscription,
        ):
            subscription.send('{"type": "connection_init", "payload": {}}')
            return json.loads(subscription.recv(10)) == {"type": "connection_ack"}
        return False


@pytest.mark.slow
def test_a_team_behind_nginx_needs_a_password_and_read_only_pages_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    (tmp_path / "nginx").mkdir()
    with webserver(tmp_path / "dagster", "--read-only", PUBLIC) as behind, nginx(tmp_path / "nginx", behind) as port:
        stranger, wrong, finance = Team(port), Team(port, "wrong"), Team(port, "secret")
        assert [it.query("{version}")[0] for it in (stranger, wrong, finance)] == [401, 401, 200]
        assert [it.subscribes() for it in (stranger, finance)] == [False, True]
        assert finance.ask("GET", "/runs")[0] == 200
        status, told = finance.query(finance.stop_query())
        assert (status, json.loads(told)["data"]["stopRunningSchedule"]) == (200, {"__typename": "UnauthorizedError"})
        assert finance.schedule()["status"] == "RUNNING"


# ── a browser ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def browser(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    assert BROWSER
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic")
    flags = [*(f"--disable-{name}" for name in quiet), "--headless", "--no-sandbox", "--no-first-run"]
    command = [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", *arguments]
    with (folder / "browser").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def shown(folder: Path, url: str, *flags: str) -> str:
    """The page as a browser has it after its scripts ran."""
    with browser(folder, *flags, "--virtual-time-budget=20000", "--dump-dom", url) as process:
        return process.communicate(timeout=90)[0]


@contextmanager
def hostile_page(served: Served) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a page that tries all it can, and what it has seen."""
    page = HOSTILE % {"port": served.port, "stop": json.dumps(served.stop_query())}
    seen: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{server.server_address[1]}", seen
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
@pytest.mark.parametrize("name", ["localhost", "evil.example"])
def test_a_hostile_page_in_a_browser_achieves_nothing(served: Served, tmp_path: Path, name: str) -> None:
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with (
        hostile_page(served) as (port, seen),
        browser(tmp_path, rules, "--remote-debugging-port=0", f"http://{name}:{port}/"),
    ):
        assert eventually(lambda: bool(seen), 60)
    assert seen[0]["image"] == "asked"
    assert {attempt: seen[0].get(attempt) for attempt in ("read", "script", "websocket")} == dict.fromkeys(
        ("read", "script", "websocket"), "failed"
    )
    assert served.schedule()["status"] == "RUNNING"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_dagster_and_nothing_under_a_name_that_was_pointed_here(served: Served, tmp_path: Path) -> None:
    page = shown(tmp_path, f"http://localhost:{served.port}/automation")
    assert {"hourly_schedule", "sync_request_sensor"} <= set(page.replace("<", ">").split(">"))
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    page = shown(tmp_path, f"http://evil.example:{served.port}/automation", rules)
    assert "orcost up does not answer to this name." in page
    assert "hourly_schedule" not in page

"""A RabbitMQ of its own: files in a folder, ports that are free, an ordinary user, nothing of a system's service."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orcost_pipeline_tests.processes import CHECKOUT, free_port

# Debian's own, without the wrapper that changes to the system's user and folder.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PATIENCE_SECONDS = 120


def program() -> Path | None:
    """RabbitMQ's server, None where it is not installed."""
    if SERVER.is_file():
        return SERVER
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, int]]:
    """Yields the AMQP URL and the server's process id; the server and its port mapper are gone afterwards."""
    server = program()
    assert server, "RabbitMQ is not installed (Debian: rabbitmq-server)."
    folder.mkdir()
    port, mapper = free_port(), free_port()
    password = secrets.token_hex(16)
    limits = (CHECKOUT / "deploy" / "celery" / "rabbitmq.conf").read_text(encoding="utf-8")
    user = f"listeners.tcp.default = 127.0.0.1:{port}\ndefault_user = orcost\ndefault_pass = {password}\n"
    (folder / "rabbitmq.conf").write_text(limits + user, encoding="utf-8")
    (folder / "enabled_plugins").write_text("[].", encoding="utf-8")
    environment = _environment(folder, mapper)
    account = _unprivileged(folder)
    with (folder / "told").open("w") as told:
        process = subprocess.Popen(
            [server], cwd=folder, env=environment, stdout=told, stderr=told, start_new_session=True, **account
        )
    try:
        _wait(process, port, folder / "told")
        yield f"amqp://orcost:{password}@127.0.0.1:{port}//", process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if epmd := shutil.which("epmd"):
            command = [epmd, "-port", str(mapper), "-kill"]
            subprocess.run(command, env=environment, capture_output=True, check=False, timeout=30)


def _environment(folder: Path, mapper: int) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"orcost-{mapper}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
    }


def _unprivileged(folder: Path) -> dict[str, int]:
    """As root: the user that the package has made, or nobody, which gets the folder."""
    if os.geteuid() != 0:
        return {}
    for name in ("rabbitmq", "nobody"):
        with suppress(KeyError):
            known = pwd.getpwnam(name)
            for path in (folder, *folder.iterdir()):
                os.chown(path, known.pw_uid, known.pw_gid)
            return {"user": known.pw_uid, "group": known.pw_gid}
    return {}


def _wait(process: subprocess.Popen[bytes], port: int, told: Path) -> None:
    """Until it greets; raises RuntimeError with what it told otherwise."""
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.5)
    raise RuntimeError(f"RabbitMQ did not start: {told.read_text(encoding='utf-8')[-2000:]}")

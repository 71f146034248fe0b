"""A Superset in an environment of its own: installed once, with a fresh metadata database for each run."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

VERSION = "6.1.0"
# flask-caching 2.5 changed a signature that Superset calls; rich and cachetools it imports without asking for them.
REQUIREMENTS = (
    f"apache-superset=={VERSION}",
    "psycopg2-binary",
    "flask-caching<2.5",
    "rich",
    "cachetools",
    "gunicorn",
    "playwright",
)
USER = "admin"
_STARTED_WITHIN_SECONDS = 120


class Superset:
    """One Superset, its state below `folder`, run by the Python in `venv`."""

    def __init__(self, venv: Path, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_urlsafe(12)
        self._bin = venv / "bin"
        config = folder / "superset_config.py"
        config.write_text(
            f"SECRET_KEY = {secrets.token_urlsafe(42)!r}\n"
            f"SQLALCHEMY_DATABASE_URI = 'sqlite:///{folder / 'superset.db'}'\n"
            "TALISMAN_ENABLED = False\n"  # the browser comes without TLS
        )
        self._environment = os.environ | {
            "SUPERSET_CONFIG_PATH": str(config),
            "SUPERSET_HOME": str(folder),
            "FLASK_APP": "superset.app:create_app()",
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def python(self) -> Path:
        return self._bin / "python"

    def prepare(self) -> None:
        """Makes the metadata database and the administrator."""
        self.command("db", "upgrade")
        names = ("--firstname", "Ada", "--lastname", "Admin", "--email", "ada@example.com")
        self.command("fab", "create-admin", "--username", USER, "--password", self.password, *names)
        self.command("init")

    def command(self, *arguments: str) -> None:
        """Runs `superset …`; raises RuntimeError with the end of its log where it fails."""
        done = subprocess.run(
            [self._bin / "superset", *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"superset {arguments[0]} failed:\n{done.stderr[-2000:]}")

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address, for as long as the block lasts; one worker."""
        port = _free_port()
        with (self.folder / "gunicorn.log").open("w") as log:
            process = subprocess.Popen(
                [
                    *(self._bin / "gunicorn", "--workers", "1", "--worker-class", "gthread", "--threads", "8"),
                    *("--bind", f"127.0.0.1:{port}", "--timeout", "120", "superset.app:create_app()"),
                ],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
            try:
                yield _answering(f"http://127.0.0.1:{port}", process)
            finally:
                process.terminate()
                process.wait(30)


def installed(venv: Path) -> Path:
    """The environment, made and filled where it is not there yet (some minutes, 900 MB)."""
    stamp = venv / f".superset-{VERSION}"
    if not stamp.exists():
        print(f"Installing Superset {VERSION} into {venv}: some minutes ...")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/python", "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        stamp.touch()
    return venv


def _answering(address: str, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + _STARTED_WITHIN_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return address
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError("Superset did not start; see gunicorn.log.")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

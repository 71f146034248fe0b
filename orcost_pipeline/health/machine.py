"""Findings from this machine: secrets in `.env`, keys that are not set, ORCOST_HOME, the disk, the port."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values

from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.health.standing import Standing, is_syncing
from orcost_pipeline.settings import LOOPBACK, Settings
from orcost_pipeline.text import listed
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.home import existing, lack_of_space, unusable

# Bytes.
LITTLE_SPACE, TOO_LITTLE_SPACE = 1_000_000_000, 200_000_000
GROUP_OR_OTHERS = 0o077
PORT_WITHIN = 2.0  # seconds


# Settings


def muted_findings(settings: Settings) -> Iterator[Finding]:
    """Codes under `mute` in orcost.toml that do not exist: the findings meant by them are still sent."""
    unknown = [code for code in settings.alerts.mute if code not in set(Code)]
    if unknown:
        message = f"{settings.config_file.name} mutes unknown finding codes: {listed(unknown)}."
        yield Finding(
            Severity.WARNING, Code.SETTINGS, None, message, "Name findings by their codes, such as mapping_doubtful"
        )


def env_findings(settings: Settings) -> Iterator[Finding]:
    """Whether the secrets in `.env` are protected from other users and from git."""
    env = settings.folder / ".env"
    secrets = {
        "ORCOST_DATABASE_URL",
        "ORCOST_ALERT_URLS",
        "ORCOST_HEARTBEAT_URL",
        *(account.api_key_env for account in settings.accounts),
    }
    if not env.is_file() or not any(value for name, value in dotenv_values(env).items() if name in secrets):
        return
    if env.stat().st_mode & GROUP_OR_OTHERS:
        message = f"{env} holds secrets, and other users of this machine may read it."
        yield Finding(Severity.WARNING, Code.ENV_READABLE, None, message, f"chmod 600 {env}")
    if _git(settings.folder, "ls-files", "--error-unmatch", ".env") == 0:
        message = f"{env} is in git: everybody with access to the repository has its secrets."
        todo = "git rm --cached .env; add .env to .gitignore; then make new keys and revoke the old ones"
        yield Finding(Severity.ERROR, Code.ENV_IN_GIT, None, message, todo)
    elif _git(settings.folder, "check-ignore", "--quiet", ".env") == 1:
        message = f"git does not ignore {env}: the next commit may publish its secrets."
        yield Finding(Severity.WARNING, Code.ENV_IN_GIT, None, message, "echo .env >> .gitignore")


def _git(folder: Path, *arguments: str) -> int | None:
    """The exit code of git, which is 128 outside a work tree; None without git."""
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(folder), *arguments]
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode  # noqa: S603
    return None


def key_findings(settings: Settings, standings: Mapping[str, Standing]) -> Iterator[Finding]:
    """Accounts without a configured key; one note where this machine only reads what others sync."""
    if settings.is_demo:
        return
    is_reader = any(standing.state.as_of for standing in standings.values()) and not is_syncing(settings)
    for account in settings.accounts:
        if account.api_key is not None:
            continue
        if is_reader and account.name not in standings:
            message, todo = (
                "No key is configured here: the data read here is synced elsewhere.",
                "orcost init, to sync here too",
            )
            yield Finding(Severity.NOTE, Code.NO_KEY, None, message, todo)
        else:
            message = f"No key is configured: {account.api_key_env} is not set."
            todo = f"Put the account's management key into {account.api_key_env} (.env), or: orcost init"
            yield Finding(Severity.ERROR, Code.NO_KEY, account.name, message, todo)


# ORCOST_HOME


def home_findings(settings: Settings) -> Iterator[Finding]:
    """Problems with ORCOST_HOME and its disk; none where this machine only reads a database synced elsewhere."""
    if settings.database_url is not None and not is_syncing(settings):
        return
    if problem := unusable(settings.home):
        yield Finding(Severity.ERROR, Code.HOME_UNUSABLE, None, *problem)
    else:
        yield from _disk_findings(settings)


def _disk_findings(settings: Settings) -> Iterator[Finding]:
    """Little space where orcost writes, once per file system."""
    seen: set[int] = set()
    for folder in written_folders(settings):
        with suppress(OSError):
            device = folder.stat().st_dev
            if device not in seen and (finding := _space_finding(folder)):
                yield finding
            seen.add(device)


def written_folders(settings: Settings) -> Iterator[Path]:
    """Where orcost writes: its home, and the data of the embedded Postgres, which may be elsewhere."""
    yield existing(settings.home)
    with suppress(EmbeddedPostgresError):
        if settings.database_url is None and (data := EmbeddedPostgres(settings.home).data()):
            yield data


def _space_finding(folder: Path) -> Finding | None:
    if problem := lack_of_space(folder, LITTLE_SPACE):
        is_urgent = lack_of_space(folder, TOO_LITTLE_SPACE) is not None
        return Finding(Severity.ERROR if is_urgent else Severity.WARNING, Code.DISK_FULL, None, *problem)
    return None


# The port of the web interface


def is_dagster(port: int, within: float = PORT_WITHIN) -> bool | None:
    """Whether Dagster listens on a port of this machine; False for another program, None where nothing listens."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=within)
    try:
        connection.request("GET", "/server_info")
        reply = json.loads(connection.getresponse().read(10_000))
        return isinstance(reply, dict) and "dagster_version" in reply
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def port_findings(port: int, listens: bool | None) -> Iterator[Finding]:
    """A port taken by another program; `listens` is the result of `is_dagster`."""
    if listens is False:
        message = f"Another program has port {port}: orcost up cannot serve there."
        yield Finding(Severity.WARNING, Code.PORT_TAKEN, None, message, f"orcost up --port {port + 1}")

"""`orcost init`: asks for an account's name and key, checks the key with OpenRouter, and writes both to files.

The key goes into `.env`, the account into orcost.toml unless it is the only one, `.env` and the state folder into
`.gitignore`, and suggestions for the account's keys into a starter mapping, as comments. Everything else in these files
is kept. Nothing is written before OpenRouter has accepted the key, and no key is ever shown.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from getpass import getpass
from typing import NamedTuple

from dotenv import dotenv_values
from pydantic import SecretStr

from orcost_pipeline.cli.project_files import write_files
from orcost_pipeline.cli.rendering import is_terminal, say
from orcost_pipeline.companies.assignment import KeyHistory, KeyVersion
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.companies.suggestion import Key
from orcost_pipeline.errors import AccountTwiceError, InvalidKeyError, OrcostError, OtherAccountError, PermanentError
from orcost_pipeline.formats import rounded
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.failures import allowed
from orcost_pipeline.openrouter.api.records import ApiKey, Credits, Workspace
from orcost_pipeline.openrouter.api.requests import PATIENCE_AT_A_TERMINAL
from orcost_pipeline.openrouter.api.waiting import wait_for
from orcost_pipeline.project_file import require_account_name
from orcost_pipeline.settings import (
    DEFAULT_ACCOUNT,
    DEFAULT_BASE_URL,
    DEFAULT_KEY_ENV,
    Account,
    Settings,
    require_trusted_address,
)
from orcost_pipeline.sync.identity import reported_evidence, require_same_account
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.access import snapshot

MANAGEMENT_KEYS = "openrouter.ai/settings/management-keys"


def init(settings: Settings, name: str | None, clock: Callable[[], datetime], surplus: Sequence[str] = ()) -> None:
    """Connects an account, or replaces its key; prints what was found, what was written, and what to do next.

    `surplus` are arguments that the command does not have. Raises PermanentError where anything has to be corrected
    first, InvalidKeyError for a refused key, OtherAccountError or AccountTwiceError for a key of another account.
    """
    if surplus:
        raise PermanentError(
            "orcost init takes no argument. It asks for the key: on the command line, the shell's history would keep "
            "it."
        )
    folder = settings.folder
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermanentError(f"{folder} is a folder that you may not write to. Run orcost init in one of your own.")
    account = _account(settings, _checked_name(_prompted_name(settings) if name is None else name.strip()))
    key = _key(settings, account)
    _require_new(settings, account, key)
    inspection = _inspected(account, key, clock)
    _require_same_account(settings, account, inspection)
    say(f'Account "{account.name}": {inspection}')
    for path, what in write_files(settings, account, key, _unattributed_keys(account, inspection, clock())):
        say(f"  {path.relative_to(folder) if path.is_relative_to(folder) else path}: {what}")
    say("Next: orcost sync (or orcost up, which syncs every hour)")


def _account(settings: Settings, name: str) -> Account:
    """The account as listed in orcost.toml, or as it would be: with a variable that no other account uses."""
    for account in settings.listed:
        if account.name == name:
            return account
    own = f"{DEFAULT_KEY_ENV}_{re.sub('[^A-Z0-9]', '_', name.upper())}"
    variable = DEFAULT_KEY_ENV if name == DEFAULT_ACCOUNT else own
    while variable in {other.api_key_env for other in settings.listed}:
        variable += "_2"
    at = {"base_url": settings.base_url, "address_from": settings.address_from}
    return Account(name=name, api_key_env=variable, api_key=None, **at)


def _require_new(settings: Settings, account: Account, key: str) -> None:
    """Raises PermanentError where another listed account has the key: every cost would count twice."""
    for other in settings.listed:
        if other.name != account.name and other.api_key == SecretStr(key):
            raise PermanentError(
                f'Account "{other.name}" has this key already; as "{account.name}", its costs would count twice. '
                "Nothing was written."
            )


def _require_same_account(settings: Settings, account: Account, inspection: "KeyInspection") -> None:
    """Raises OtherAccountError or AccountTwiceError where the stored data is of another account than the key.

    A warehouse that cannot be read is no obstacle: the next sync checks again.
    """
    workspaces = [workspace.id for workspace in inspection.workspaces or ()]
    evidence = reported_evidence(
        inspection.keys, workspaces, inspection.organization_id, inspection.credits, is_whole=inspection.is_whole
    )
    is_managed = not inspection.is_ordinary
    try:
        with snapshot(settings) as connection:
            require_same_account(connection, account, evidence, "Nothing was written", is_managed=is_managed)
    except (OtherAccountError, AccountTwiceError):
        raise
    except OrcostError:
        return


# Questions


def _prompted_name(settings: Settings) -> str:
    """The account's name from the terminal or stdin, by default `default`.

    A script with the key in its environment is not asked.
    """
    if not is_terminal() and _variable_of_environment(settings, _account(settings, DEFAULT_ACCOUNT)):
        return DEFAULT_ACCOUNT
    if is_terminal():
        say(f"This connects an OpenRouter account to the project in {settings.folder}", is_error=True)
        say(f"Name of the account [{DEFAULT_ACCOUNT}]: ", is_line=False, is_error=True)
    return _input_line() or DEFAULT_ACCOUNT


def _checked_name(name: str) -> str:
    """The name, if orcost.toml accepts it; raises PermanentError otherwise, without repeating it: it may be a key."""
    if name.startswith("sk-"):
        raise PermanentError(
            "That was a key, where the account's name was asked for; nothing was written. "
            f"The name comes first (an empty line is {DEFAULT_ACCOUNT}), then the key."
        )
    require_account_name(name, "Nothing was written.")
    return name


def _key(settings: Settings, account: Account) -> str:
    """The account's key: from the environment, else typed without echo at a terminal, else the next line of stdin.

    Raises PermanentError where there is none, and for a key that would go to an untrusted address.
    """
    if variable := _variable_of_environment(settings, account):
        if os.environ[variable] not in dotenv_values(settings.folder / ".env").values():
            require_trusted_address(account)
        say(f"The key is taken from {variable} of the environment; unset it to be asked for one.")
        return os.environ[variable].strip()
    key = _prompted_key(account) if is_terminal() else _input_line()
    if not key:
        raise PermanentError(
            "No key was given; nothing was written. Type it at a terminal, or give it as a line of stdin "
            f"or in the environment as {account.api_key_env}."
        )
    return key


def _variable_of_environment(settings: Settings, account: Account) -> str | None:
    """The set variable with the account's key: its own, else OPENROUTER_API_KEY unless another account uses it."""
    others = {other.api_key_env for other in settings.listed if other.name != account.name}
    candidates = [account.api_key_env, *({DEFAULT_KEY_ENV} - others)]
    return next((variable for variable in candidates if os.environ.get(variable, "").strip()), None)


def _prompted_key(account: Account) -> str:
    goes_to = "" if account.base_url == DEFAULT_BASE_URL else f"; it goes to {account.base_url}"
    say(f"Its key (make a management key at {MANAGEMENT_KEYS}{goes_to}).", is_error=True)
    with suppress(EOFError):
        return getpass("Key, not shown as you type: ").strip()
    return ""


def _input_line() -> str:
    """The next line of stdin; blank where it has none."""
    # With stdin closed at the start there is none.
    return sys.stdin.buffer.readline().decode(errors="replace").strip() if sys.stdin else ""


# The proof


class KeyInspection(NamedTuple):
    """What OpenRouter reports about a key. An ordinary key lists only itself, without workspaces and credits.

    workspaces, credits: None where this key may not see them; is_whole: whether the keys of all workspaces are listed.
    """

    keys: Sequence[ApiKey]
    organization_id: str | None = None
    is_ordinary: bool = False
    workspaces: Sequence[Workspace] | None = None
    credits: Credits | None = None
    is_whole: bool = True

    def __str__(self) -> str:
        if self.is_ordinary:
            return (
                "an ordinary key, which reports only its own cost: one project, no models or tokens, no history "
                f"before this month.\nFor all keys by model: make a management key at {MANAGEMENT_KEYS}, then run "
                "orcost init again."
            )
        listed = plural(len(self.keys), "key")
        if self.is_whole:
            listed += f" in {plural(len(self.workspaces or ()), 'workspace')}"
        text = f"a management key, which lists {listed}.{self._balance()}"
        if not self.is_whole:
            text += "\nOpenRouter does not list all workspaces for it: keys of others may be missing."
        return text

    def _balance(self) -> str:
        if self.credits is None:
            return " Balance: unknown to this key."
        # An invoiced account never bought any credits.
        balance = self.credits.balance_usd if self.credits.total_credits else None
        return f" Balance: {rounded(balance, 2)} USD." if balance is not None else ""


def _inspected(account: Account, key: str, clock: Callable[[], datetime]) -> KeyInspection:
    """What OpenRouter reports about the key; raises InvalidKeyError, with advice for this command, if refused."""
    try:
        return wait_for(_ask(account, key, clock))
    except InvalidKeyError as error:
        raise InvalidKeyError(
            f"{str(error).partition(chr(10))[0]}\nIt may be mistyped or revoked; nothing was written. "
            f"Make a management key at {MANAGEMENT_KEYS}, then run orcost init again."
        ) from None


async def _ask(account: Account, key: str, clock: Callable[[], datetime]) -> KeyInspection:
    """Raises InvalidKeyError for a refused key, TransientError where OpenRouter does not answer, ClockError where a
    sync would refuse this machine's clock.
    """
    secret, url, variable = SecretStr(key), account.base_url, account.api_key_env
    async with OpenRouter(
        account.name, secret, url, key_env=variable, clock=clock, timeout=20, patience=PATIENCE_AT_A_TERMINAL
    ) as client:
        itself = await client.key()
        client.require_right_clock()
        if not itself.can_manage:
            return KeyInspection([await client.itself()], itself.organization_id, is_ordinary=True)
        listed = await client.account_keys()
        return KeyInspection(
            listed.keys,
            itself.organization_id,
            workspaces=listed.workspaces.rows,
            credits=await allowed(client.credits()),
            is_whole=listed.is_whole,
        )


def _unattributed_keys(account: Account, inspection: KeyInspection, now: datetime) -> list[Key]:
    """The account's keys as rules see them, all unattributed, with their lifetime usage in USD."""
    workspaces = {workspace.id: workspace.name for workspace in inspection.workspaces or ()}

    def as_rules_see_it(key: ApiKey) -> KeyHistory:
        version = KeyVersion(
            now,
            key.name,
            key.label,
            workspace_id=key.workspace_id,
            workspace_name=workspaces.get(key.workspace_id or ""),
            creator_user_id=key.creator_user_id,
            external_user=key.external_user,
        )
        return KeyHistory(key.hash, (version,))

    nothing = Decimal(0)
    return [
        Key(account.name, as_rules_see_it(key), UNATTRIBUTED, key.usage or nothing, key.byok_usage or nothing)
        for key in inspection.keys
    ]

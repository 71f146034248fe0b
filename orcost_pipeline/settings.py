"""Environment, `.env` and `orcost.toml` → typed settings. Secrets are `SecretStr`; nothing here reads them out.

The project folder is the nearest one, upwards from the current, that holds `orcost.toml` or `.env`: relative paths and
defaults resolve from there, so that a report in a subfolder never starts a second, empty database. Above the current
folder, a `.env` counts only if this user or root owns it and it sets a variable of this pipeline (D61).
The environment wins over `.env`. `definitions.py` and the CLI alone call `load_settings`.
"""

import io
import logging
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.project_file import (
    DEFAULT_COMPANIES,
    DEFAULT_KEY_ENV,
    DEFAULT_MAPPING,
    DEFAULT_PLANS,
    DEFAULT_RATES,
    DEFAULT_TOLERANCE_USD,
    AlertsConfig,
    BillingConfig,
    ProjectConfig,
    RetentionConfig,
    Source,
    read_config,
)
from orcost_pipeline.text import LONGEST_VALUE, listed, quoted, short

DEFAULT_BASE_URL = "https://openrouter.ai/api/v1"
DEFAULT_CONFIG = "orcost.toml"
DEFAULT_ACCOUNT = "default"
LOOPBACK = "127.0.0.1"  # where web interface and code server listen: access from outside is up to a proxy
UP = "ORCOST_UP"  # set by orcost up for its own services, in no .env
BASE_URL_ENV = "OPENROUTER_BASE_URL"
OUR_PREFIXES = ("ORCOST_", "OPENROUTER_")

# The folder of the demo, below ORCOST_HOME.
DEMO = "demo"
DEMO_MARK = ".orcost-demo"  # a file in it

# It would log every unreadable line each time; `Settings.notes` name them once.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)


class Environment(BaseSettings):
    """The supported environment variables, as `.env.example` lists them."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)
    openrouter_api_key: SecretStr | None = Field(None, validation_alias=AliasChoices("OPENROUTER_API_KEY"))
    openrouter_base_url: str = Field(DEFAULT_BASE_URL, validation_alias=AliasChoices("OPENROUTER_BASE_URL"))
    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("ORCOST_DATABASE_URL"))
    home: Path = Field(Path(".orcost"), validation_alias=AliasChoices("ORCOST_HOME"))
    config: Path | None = Field(None, validation_alias=AliasChoices("ORCOST_CONFIG"))
    mapping: str | None = Field(None, validation_alias=AliasChoices("ORCOST_MAPPING"))
    alert_urls: SecretStr | None = Field(None, validation_alias=AliasChoices("ORCOST_ALERT_URLS"))
    heartbeat_url: SecretStr | None = Field(None, validation_alias=AliasChoices("ORCOST_HEARTBEAT_URL"))


class Account(BaseModel):
    """An OpenRouter account to sync: its name, the variable of its key, and the key where it is set.

    `address_from` is the file that alone names `base_url`, so that its author may not be the owner of the key.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    api_key_env: str
    api_key: SecretStr | None
    base_url: str
    address_from: Path | None = None


class Settings(BaseModel):
    """Everything a process of the pipeline needs to know, with absolute paths.

    `listed` are the accounts of orcost.toml; where it lists none, `accounts` holds that of OPENROUTER_API_KEY.
    `is_of_up` is whether this process belongs to `orcost up`, which alone runs the warehouse's schedule.
    `notes` are messages about files and lines that were ignored.
    """

    model_config = ConfigDict(frozen=True)
    folder: Path
    home: Path
    mapping: Source
    database_url: SecretStr | None
    accounts: tuple[Account, ...]
    listed: tuple[Account, ...] = ()
    config_file: Path
    companies: Path = Path(DEFAULT_COMPANIES)
    price_plans: Source = Source("price_plans", Path(DEFAULT_PLANS))
    exchange_rates: Source = Source("exchange_rates", Path(DEFAULT_RATES))
    base_url: str = DEFAULT_BASE_URL
    address_from: Path | None = None
    tolerance_usd: Decimal = DEFAULT_TOLERANCE_USD
    alerts: AlertsConfig = AlertsConfig()
    retention: RetentionConfig = RetentionConfig()
    billing: BillingConfig = BillingConfig()
    alert_urls: SecretStr | None = None
    heartbeat_url: SecretStr | None = None
    is_of_up: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_demo(self) -> bool:
        """Whether this is the folder of the demo, whose account is simulated."""
        return (self.home / DEMO_MARK).is_file()

    def account(self, name: str) -> Account:
        """The account of that name; raises PermanentError with the configured names."""
        for account in self.accounts:
            if account.name == name:
                return account
        raise PermanentError(
            f"No account is called {quoted(name)}. Configured: {listed(a.name for a in self.accounts)}."
        )


def project_folder(current: Path, notes: list[str] | None = None) -> Path:
    """The nearest folder upwards with orcost.toml or a `.env` that counts, else the current one.

    Files that were ignored are added to `notes`.
    """
    for folder in (current, *current.parents):
        if (folder / DEFAULT_CONFIG).is_file() or _counts(folder / ".env", current, [] if notes is None else notes):
            return folder
    return current


def _counts(env_file: Path, current: Path, notes: list[str]) -> bool:
    """Whether a `.env` makes its folder the project's. In the current folder it always does; above, in a folder such
    as /tmp, it may be another user's or another program's."""
    if not env_file.is_file() or env_file.parent == current:
        return env_file.is_file()
    if not {env_file.stat().st_uid, env_file.lstat().st_uid} <= {os.geteuid(), 0}:
        notes.append(f"{env_file} is another user's and was not read. If it is meant: work in its folder, or chown it.")
        return False
    try:
        text = env_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # reading it later raises with the cause
    return any(name.startswith(OUR_PREFIXES) for name in dotenv_values(stream=io.StringIO(text)))


def load_settings(current: Path | None = None) -> Settings:
    """Settings of the project around `current` (by default the working folder).

    Raises PermanentError for unreadable or wrong files, and for a key that an untrusted address would receive.
    """
    current, notes = (current or Path.cwd()).resolve(), list[str]()
    folder = project_folder(current, notes)
    env_file = folder / ".env"
    try:
        in_file = dotenv_values(env_file)
        notes += _unreadable_lines(env_file)
        # An empty variable of the environment does not replace the file's; `Environment` does the same.
        variables = {**in_file, **{name: value for name, value in os.environ.items() if value}}
        # _env_file is an argument that pydantic-settings adds to every constructor; pyright does not know it.
        environment = Environment(_env_file=env_file)  # pyright: ignore[reportCallIssue]
    except UnicodeDecodeError:
        raise PermanentError(f"{env_file} is no UTF-8 text. Save it as UTF-8.") from None
    except OSError as error:
        raise PermanentError(f"{env_file} cannot be read ({error.strerror}). Its owner can, or chown it.") from None
    config_file = folder / (environment.config or Path(DEFAULT_CONFIG)).expanduser()
    config = read_config(config_file, required=environment.config is not None)
    process = Environment()  # pyright: ignore[reportCallIssue]
    files = env_file, None if process.config or config_file.parent == current else config_file
    accounts = tuple(configured_accounts(config, environment, variables, process, files))
    for account in accounts:
        if account.api_key and account.api_key.get_secret_value() not in in_file.values():
            require_trusted_address(account)
    return Settings(
        folder=folder,
        home=folder / environment.home.expanduser(),
        mapping=Source.named("mapping", environment.mapping or config.mapping, DEFAULT_MAPPING, folder),
        companies=folder / config.companies.expanduser(),
        price_plans=Source.named("price_plans", config.price_plans, DEFAULT_PLANS, folder),
        exchange_rates=Source.named("exchange_rates", config.exchange_rates, DEFAULT_RATES, folder),
        database_url=environment.database_url,
        accounts=accounts,
        listed=accounts if config.accounts else (),
        config_file=config_file,
        base_url=environment.openrouter_base_url,
        address_from=_named_by(env_file, environment.openrouter_base_url, process),
        tolerance_usd=config.reconciliation.tolerance_usd,
        alerts=config.alerts,
        retention=config.retention,
        billing=config.billing,
        alert_urls=environment.alert_urls,
        heartbeat_url=environment.heartbeat_url,
        is_of_up=UP in os.environ,
        notes=tuple(notes),
    )


def configured_accounts(
    config: ProjectConfig,
    environment: Environment,
    variables: Mapping[str, Any],
    process: Environment,
    files: tuple[Path, Path | None],
) -> list[Account]:
    """The accounts of orcost.toml, or the one account `default` of OPENROUTER_API_KEY.

    `process` are the variables of the process alone; `files` are the `.env`, and orcost.toml where it was found
    upwards: the author of an address in them may not be the owner of the key.
    """
    env_file, config_file = files
    base_url = environment.openrouter_base_url
    named_in_env = _named_by(env_file, base_url, process)
    if not config.accounts:
        key = environment.openrouter_api_key
        only = {"name": DEFAULT_ACCOUNT, "api_key_env": DEFAULT_KEY_ENV}
        return [Account(**only, api_key=key, base_url=base_url, address_from=named_in_env)]
    return [
        Account(
            name=entry.name,
            api_key_env=entry.api_key_env,
            api_key=SecretStr(key) if (key := variables.get(entry.api_key_env)) else None,
            base_url=entry.base_url or base_url,
            address_from=_named_by(config_file, entry.base_url, process) if entry.base_url else named_in_env,
        )
        for entry in config.accounts
    ]


def _named_by(file: Path | None, base_url: str, process: Environment) -> Path | None:
    """The file, if the process's environment does not name the same host."""
    return None if _origin(base_url) == _origin(process.openrouter_base_url) else file


def _origin(url: str) -> str:
    """Scheme and host of a URL, without a user's name and password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0].rpartition('@')[2]}"


def require_trusted_address(account: Account) -> None:
    """Raises PermanentError where a key from the environment would go to a host that only a file names (D61)."""
    if account.address_from is not None:
        raise PermanentError(
            f'The key of account "{account.name}" comes from the environment, and {account.address_from} would send it '
            f"to {short(_origin(account.base_url), LONGEST_VALUE)}.\nIf that is meant, set {BASE_URL_ENV} in the "
            "environment too, or put the key into .env; otherwise remove the address from the file."
        )


def _unreadable_lines(env_file: Path) -> list[str]:
    """A note about the unreadable lines of a `.env`; none where there are none."""
    if not env_file.is_file():
        return []
    with env_file.open(encoding="utf-8") as stream:
        wrong = [str(binding.original.line) for binding in parse_stream(stream) if binding.error]
    return [f"{env_file}: line {listed(wrong)} cannot be read."] if wrong else []

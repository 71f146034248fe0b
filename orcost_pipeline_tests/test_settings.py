"""Settings: what the environment, `.env` and orcost.toml say, which of them wins, and what is refused in a sentence."""

import os
import re
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import DEFAULT_BASE_URL, Environment, Settings, load_settings

ROOT = Path(__file__).parents[1]
KEY = "sk-or-v1-c0ffee5ec2e7c0ffee5ec2e7ca4a"
CONTRACT = {
    "OPENROUTER_API_KEY",
    "OPENROUTER_BASE_URL",
    "ORCOST_DATABASE_URL",
    "ORCOST_HOME",
    "ORCOST_CONFIG",
    "ORCOST_MAPPING",
    "ORCOST_ALERT_URLS",
    "ORCOST_HEARTBEAT_URL",
}
TWO_ACCOUNTS = """
[[accounts]]
name = "acme"
api_key_env = "ACME_KEY"

[[accounts]]
name = "beta corp"
api_key_env = "BETA_KEY"
base_url = "https://proxy.beta.example/api/v1"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, the current one, and an environment without any of our variables."""
    for name in list(os.environ):
        if name.upper() in CONTRACT | {"ACME_KEY", "BETA_KEY"}:
            monkeypatch.delenv(name)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def keys_of(settings: Settings) -> dict[str, str | None]:
    return {a.name: a.api_key.get_secret_value() if a.api_key else None for a in settings.accounts}


def test_how_much_unattributed_is_too_much(folder: Path) -> None:
    assert load_settings().alerts.unattributed_percent == 5
    (folder / "orcost.toml").write_text("[alerts]\nunattributed_percent = 2.5\n", encoding="utf-8")
    assert load_settings().alerts.unattributed_percent == Decimal("2.5")
    (folder / "orcost.toml").write_text("[alerts]\nunattributed_percent = 101\n", encoding="utf-8")
    with pytest.raises(PermanentError, match=r'orcost\.toml, line 2: "unattributed_percent" is wrong: '):
        load_settings()


# ── the contract's variables ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_names_exactly_the_variables_that_are_read() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = re.findall(r"^#? ?([A-Z_]+)=", example, re.MULTILINE)
    read = [alias for field in Environment.model_fields.values() for alias in field.validation_alias.choices]  # type: ignore[union-attr]
    assert sorted(named) == sorted(read)
    assert set(read) == CONTRACT


def test_the_examples_defaults_are_the_defaults(folder: Path) -> None:
    """Every commented line, uncommented, says what is so without it, but for the URL of a database."""
    plain = load_settings()
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    told = [line.removeprefix("# ") for line in lines if re.match(r"# [A-Z_]+=", line)]
    (folder / "orcost.toml").touch()
    (folder / ".env").write_text("\n".join(line for line in told if "DATABASE" not in line), encoding="utf-8")
    assert load_settings() == plain


def test_without_anything_there_is_one_account_without_a_key(folder: Path) -> None:
    settings = load_settings()
    assert [(a.name, a.api_key_env, a.api_key, a.base_url) for a in settings.accounts] == [
        ("default", "OPENROUTER_API_KEY", None, DEFAULT_BASE_URL)
    ]
    assert (settings.folder, settings.home, settings.mapping.path, settings.database_url) == (
        folder,
        folder / ".orcost",
        folder / "company_mapping.csv",
        None,
    )


def test_reading_settings_makes_no_file(folder: Path) -> None:
    load_settings()
    assert list(folder.iterdir()) == []


def test_the_environment_wins_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("OPENROUTER_API_KEY=of-the-file\nORCOST_HOME=of-the-file\n", encoding="utf-8")
    assert keys_of(load_settings()) == {"default": "of-the-file"}
    monkeypatch.setenv("OPENROUTER_API_KEY", "of-the-environment")
    settings = load_settings()
    assert keys_of(settings) == {"default": "of-the-environment"}
    assert settings.home == folder / "of-the-file"


def test_an_empty_variable_is_not_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `.env.example`, copied and not yet filled in, has it."""
    (folder / ".env").write_text("OPENROUTER_API_KEY=\nORCOST_DATABASE_URL=\nORCOST_MAPPING=\n", encoding="utf-8")
    monkeypatch.setenv("ORCOST_HOME", "")
    monkeypatch.setenv("ORCOST_CONFIG", "")
    settings = load_settings()
    assert keys_of(settings) == {"default": None}
    assert settings.database_url is None
    assert (settings.home, settings.mapping.path) == (folder / ".orcost", folder / "company_mapping.csv")


def test_an_empty_variable_of_the_environment_leaves_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text(f"OPENROUTER_API_KEY={KEY}\n", encoding="utf-8")
    monkeypatch.setenv("OPENROUTER_API_KEY", "")
    assert keys_of(load_settings()) == {"default": KEY}


def test_variables_of_other_programs_are_passed_over(folder: Path) -> None:
    (folder / ".env").write_text(f'DEBUG=1\nexport OPENROUTER_API_KEY="{KEY}" # mine\nNONSENSE\n', encoding="utf-8")
    assert keys_of(load_settings()) == {"default": KEY}


@pytest.mark.parametrize("content", ["{}={}\r\n", "\ufeff{}={}\n"], ids=["CRLF", "BOM"])
@pytest.mark.parametrize("accounts", ["", TWO_ACCOUNTS], ids=["default", "accounts"])
def test_a_file_from_a_windows_editor_is_read(folder: Path, content: str, accounts: str) -> None:
    name = "ACME_KEY" if accounts else "OPENROUTER_API_KEY"
    (folder / "orcost.toml").write_text(accounts, encoding="utf-8")
    (folder / ".env").write_bytes(content.format(name, KEY).encode())
    assert KEY in keys_of(load_settings()).values()


def test_a_file_of_variables_that_is_no_text_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / ".env").write_bytes(f"OPENROUTER_API_KEY={KEY}\n".encode("utf-16"))
    with pytest.raises(PermanentError, match=r"\.env"):
        load_settings()


# ── where the project is ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("marker", [".env", "orcost.toml"])
def test_the_project_is_found_upwards(folder: Path, monkeypatch: pytest.MonkeyPatch, marker: str) -> None:
    below = folder / "reports" / "2026"
    below.mkdir(parents=True)
    (folder / marker).write_text("" if marker == "orcost.toml" else "ORCOST_HOME=.orcost\n", encoding="utf-8")
    monkeypatch.chdir(below)
    settings = load_settings()
    assert settings.folder == folder
    assert settings.home == folder / ".orcost"
    assert settings.mapping.path == folder / "company_mapping.csv"


def test_the_nearest_project_wins(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "orcost.toml").touch()
    (inner / ".env").touch()
    assert load_settings(inner).folder == inner
    assert load_settings(folder).folder == folder


def test_without_a_project_the_current_folder_is_the_project(folder: Path) -> None:
    (folder / "below").mkdir()
    assert load_settings(folder / "below").folder == folder / "below"


def test_a_folder_that_is_called_like_a_file_is_no_project(folder: Path) -> None:
    """Some keep a virtual environment in a folder `.env`."""
    (folder / "orcost.toml").touch()
    (folder / "below" / ".env").mkdir(parents=True)
    assert load_settings(folder / "below").folder == folder


def test_relative_paths_resolve_from_the_project_and_absolute_ones_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    below = folder / "below"
    below.mkdir()
    (folder / ".env").write_text(
        f"ORCOST_HOME=state/here\nORCOST_MAPPING={tmp_path}/map.csv\nORCOST_CONFIG=conf/accounts.toml\n",
        encoding="utf-8",
    )
    (folder / "conf").mkdir()
    (folder / "conf" / "accounts.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    monkeypatch.chdir(below)
    settings = load_settings()
    assert (settings.home, settings.mapping.path) == (folder / "state" / "here", tmp_path / "map.csv")
    assert [account.name for account in settings.accounts] == ["acme", "beta corp"]


@pytest.mark.parametrize("variable", ["ORCOST_HOME", "ORCOST_MAPPING", "ORCOST_CONFIG"])
def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/mine")
    (tmp_path / "mine").write_text(TWO_ACCOUNTS, encoding="utf-8")
    settings = load_settings()
    if variable == "ORCOST_CONFIG":
        assert len(settings.accounts) == 2
    else:
        assert tmp_path / "mine" in (settings.home, settings.mapping.path)


# ── orcost.toml ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_accounts_come_from_the_file_and_their_keys_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    monkeypatch.setenv("ACME_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", "of no account")
    settings = load_settings()
    assert keys_of(settings) == {"acme": KEY, "beta corp": None}
    assert [account.base_url for account in settings.accounts] == [
        DEFAULT_BASE_URL,
        "https://proxy.beta.example/api/v1",
    ]


def test_a_key_that_an_account_names_is_read_from_the_file_of_variables(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    (folder / ".env").write_text("ACME_KEY=of-the-file\nBETA_KEY=of-the-file\n", encoding="utf-8")
    monkeypatch.setenv("BETA_KEY", "of-the-environment")
    assert keys_of(load_settings()) == {"acme": "of-the-file", "beta corp": "of-the-environment"}


def test_an_empty_variable_of_an_account_leaves_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    (folder / ".env").write_text(f"ACME_KEY={KEY}\n", encoding="utf-8")
    monkeypatch.setenv("ACME_KEY", "")
    assert keys_of(load_settings())["acme"] == KEY


def test_the_base_url_is_every_accounts_that_has_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    monkeypatch.setenv("OPENROUTER_BASE_URL", "https://proxy.example/v1")
    assert [account.base_url for account in load_settings().accounts] == [
        "https://proxy.example/v1",
        "https://proxy.beta.example/api/v1",
    ]


def test_a_file_without_accounts_leaves_the_default_one(folder: Path) -> None:
    (folder / "orcost.toml").write_text("# nothing yet\n", encoding="utf-8")
    assert [account.name for account in load_settings().accounts] == ["default"]


REFUSED = {
    "an unknown key": ("\nacounts = []", r'line 2: there is no "acounts"; did you mean "accounts"\?'),
    "a key of an account that is none": (
        '[[accounts]]\nname = "a"\napi_key_env = "A"\nbaseurl = "x"',
        r'line 4: there is no "baseurl"; did you mean "base_url"\?',
    ),
    "a key of a later account": (
        f'# ours\n{TWO_ACCOUNTS}\n[[accounts]]\nname = "c"\n\napi_key_env = "C"\napi_key_var = "C"',
        r'line 16: there is no "api_key_var"; did you mean "api_key_env"\?',
    ),
    "a key of an account written in a line": (
        'mapping = """\nrules.csv"""\naccounts = [\n  {name = "a", api_key_env = 5},\n]',
        r'line 3: "api_key_env" is no text: write it in quotes\.',
    ),
    "a section of no name": (
        "[alert]\nunattributed_percent = 5",
        r'line 1: there is no "alert"; did you mean "alerts"\?',
    ),
    "a section of an account": (
        f"{TWO_ACCOUNTS}[accounts.proxy]\nhost = 'x'",
        r'line 10: there is no "proxy"\.$',
    ),
    "a key in the wrong section": (
        "[reconciliation]\nunattributed_percent = 5",
        r'line 2: there is no "unattributed_percent"; it belongs under \[alerts\]\.',
    ),
    "a setting below an account": (
        f'{TWO_ACCOUNTS}mapping = "rules.csv"',
        r'line 10: there is no "mapping"; it belongs above all sections\.',
    ),
    "a dotted key": ("alerts . 'percent' = 5", r'line 1: there is no "percent"'),
    "an account without a name": ('\n[[accounts]]\napi_key_env = "A"', r'line 2: "name" is missing\.'),
    "an account without its key's name": ('[[accounts]]\nname = "a"', r'line 1: "api_key_env" is missing\.'),
    "an empty name": ('[[accounts]]\nname = ""\napi_key_env = "A"', r'line 2: "name" is wrong: '),
    "a name of many lines": ('[[accounts]]\nname = "a\\nb"\napi_key_env = "A"', r'line 2: "name" is wrong: '),
    "a name that ends a line": ('[[accounts]]\nname = "a\\n"\napi_key_env = "A"', r'line 2: "name" is wrong: '),
    "a name that leaves its folder": ('[[accounts]]\nname = "../a"\napi_key_env = "A"', r'line 2: "name" is wrong: '),
    "one account instead of a list": (
        '[accounts]\nname = "a"\napi_key_env = "A"',
        r'line 1: "accounts" is a list: write \[\[accounts\]\] above each account\.',
    ),
    "a value instead of a section": ("alerts = 5", r'line 1: "alerts" is a section with fields, not a value\.'),
    "two accounts of a name": (
        '[[accounts]]\nname = "a"\napi_key_env = "A"\n[[accounts]]\nname = "a"\napi_key_env = "B"',
        r'line 5: "name" is the name of two accounts\.',
    ),
    "invalid TOML": ('[[accounts]\nname = "a"', r"is not valid TOML: .*line 1"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_wrong_file_is_refused_in_one_sentence_that_names_it(folder: Path, mistake: str) -> None:
    content, sentence = REFUSED[mistake]
    (folder / "orcost.toml").write_text(content, encoding="utf-8")
    with pytest.raises(PermanentError, match=sentence) as caught:
        load_settings()
    assert str(folder / "orcost.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_of_a_file_are_told_in_its_order(folder: Path) -> None:
    file = folder / "orcost.toml"
    file.write_text(
        '[alerts]\nunattributed = 101\n\n[[accounts]]\nname = ""\n\n[[accounts]]\nname = "b"\nkey_env = "B"\n',
        encoding="utf-8",
    )
    with pytest.raises(PermanentError) as caught:
        load_settings()
    assert str(caught.value).splitlines() == [
        f'{file}, line 2: there is no "unattributed"; did you mean "unattributed_percent"?',
        f'{file}, line 4: "api_key_env" is missing.',
        f'{file}, line 5: "name" is wrong: String should have at least 1 character.',
        f'{file}, line 9: there is no "key_env"; did you mean "api_key_env"?',
    ]


def test_of_many_mistakes_the_first_are_told(folder: Path) -> None:
    (folder / "orcost.toml").write_text('[[accounts]]\napi_key_env = "A"\n' * 1_000, encoding="utf-8")
    with pytest.raises(PermanentError) as caught:
        load_settings()
    told = str(caught.value).splitlines()
    assert (len(told), told[-1]) == (21, "… and 980 more")


def test_a_file_that_is_no_utf8_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / "orcost.toml").write_bytes('[[accounts]]\nname = "Café"\n'.encode("latin-1"))
    with pytest.raises(PermanentError, match="is not valid TOML"):
        load_settings()


@pytest.mark.parametrize(
    "content",
    [
        f'[[accounts]]\nname = "a"\napi_key = "{KEY}"\napi_key_env = "A"',
        f'api_key = "{KEY}"',
        f'[[accounts]]\nname = "a"\napi_key_env = ["{KEY}"]',
        f'[[accounts]]\nname = "a"\napi_key_env = {KEY}',
        f'[[accounts]]\nname = "a"\napi_key_env = "{KEY}"',
    ],
)
def test_a_key_written_into_the_file_is_refused_and_not_shown(folder: Path, content: str) -> None:
    (folder / "orcost.toml").write_text(content, encoding="utf-8")
    with pytest.raises(PermanentError) as caught:
        load_settings()
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("path", ["nowhere.toml", "/nowhere/orcost.toml"])
def test_a_configuration_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("ORCOST_CONFIG", path)
    with pytest.raises(PermanentError, match=r"nowhere.* cannot be read \(No such file or directory\).*ORCOST_CONFIG"):
        load_settings()


def test_a_configuration_that_is_a_folder_is_refused_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCOST_CONFIG", str(folder))
    with pytest.raises(PermanentError, match="cannot be read"):
        load_settings()


# ── what settings are ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_is_found_by_its_name_and_an_unknown_one_names_the_others(folder: Path) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    settings = load_settings()
    assert settings.account("beta corp").api_key_env == "BETA_KEY"
    with pytest.raises(PermanentError, match=r'No account is called "gamma"\. Configured: acme, beta corp\.'):
        settings.account("gamma")


def test_no_secret_is_in_what_settings_show(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    monkeypatch.setenv("ACME_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    monkeypatch.setenv("ORCOST_DATABASE_URL", "postgresql://me:hunter2@db.example/costs")
    settings = load_settings()
    assert settings.database_url is not None
    assert "hunter2" in settings.database_url.get_secret_value()
    for value in (settings, settings.accounts, settings.account("acme"), Environment()):
        for shown in (repr(value), str(value), f"{value}"):
            assert "hunter2" not in shown
            assert KEY not in shown
    assert "hunter2" not in settings.model_dump_json()
    assert KEY not in settings.model_dump_json()


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.home = Path("/elsewhere")


# ── whose settings, whose key ────────────────────────────────────────────────────────────────────────────────────────

EVIL = "https://evil.example/api/v1"


@pytest.mark.parametrize("content", ["", "DEBUG=1\nDJANGO_SECRET=x\n", "# ORCOST_HOME=x\n"])
def test_another_programs_variables_above_are_no_project(folder: Path, content: str) -> None:
    (folder / ".env").write_text(content, encoding="utf-8")
    (folder / "below").mkdir()
    assert load_settings(folder / "below").folder == folder / "below"
    assert load_settings(folder).folder == folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_variables_above_are_not_read_and_that_is_told(folder: Path) -> None:
    (folder / ".env").write_text(f"ORCOST_HOME=theirs\nOPENROUTER_BASE_URL={EVIL}\n", encoding="utf-8")
    (folder / "below").mkdir()
    os.chown(folder / ".env", 12_345, 12_345)
    settings = load_settings(folder / "below")
    assert (settings.folder, settings.base_url) == (folder / "below", DEFAULT_BASE_URL)
    assert settings.notes == (
        f"{folder}/.env is another user's and was not read. If it is meant: work in its folder, or chown it.",
    )
    assert load_settings(folder).home == folder / "theirs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_link_to_ones_own_variables_is_not_followed(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("ORCOST_HOME=mine\n", encoding="utf-8")
    (folder / ".env").symlink_to(mine)
    (folder / "below").mkdir()
    assert load_settings(folder / "below").folder == folder
    os.chown(folder / ".env", 12_345, 12_345, follow_symlinks=False)
    assert load_settings(folder / "below").folder == folder / "below"


@pytest.mark.slow
def test_lines_that_say_nothing_are_counted(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / ".env").write_text("ORCOST_HOME=here\n" + "this says nothing\n" * 50_000, encoding="utf-8")
    (note,) = load_settings(folder).notes
    assert note.endswith(".env: line 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … and 49,990 more cannot be read.")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("place", ["", "below"])
def test_variables_of_a_file_send_no_key_of_the_environment_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (folder / ".env").write_text(f"OPENROUTER_BASE_URL={EVIL}\n", encoding="utf-8")
    (folder / "below").mkdir()
    assert load_settings(folder / place).base_url == EVIL  # there is no key to send
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    with pytest.raises(
        PermanentError, match=r'key of account "default" comes from the environment, and .*\.env'
    ) as caught:
        load_settings(folder / place)
    assert "https://evil.example.\n" in str(caught.value)
    assert "set OPENROUTER_BASE_URL in the environment too" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_key_goes_where_the_same_hand_sends_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text(f"OPENROUTER_BASE_URL={EVIL}\nOPENROUTER_API_KEY={KEY}\n", encoding="utf-8")
    assert load_settings(folder).accounts[0].base_url == EVIL
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)  # as `dagster dev` does with what the file says
    assert load_settings(folder).accounts[0].base_url == EVIL
    monkeypatch.setenv("OPENROUTER_API_KEY", f"{KEY}2")
    monkeypatch.setenv("OPENROUTER_BASE_URL", EVIL)
    assert load_settings(folder).accounts[0].base_url == EVIL


def test_a_file_that_names_openrouter_itself_is_in_nobodys_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("OPENROUTER_BASE_URL=https://openrouter.ai/api/v2\n", encoding="utf-8")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    assert load_settings(folder).accounts[0].base_url == "https://openrouter.ai/api/v2"


def test_a_configuration_found_above_sends_no_key_of_the_environment_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "orcost.toml").write_text(TWO_ACCOUNTS, encoding="utf-8")
    (folder / "below").mkdir()
    monkeypatch.setenv("BETA_KEY", KEY)
    with pytest.raises(PermanentError, match=r'"beta corp" comes from the environment, and .*orcost\.toml would send'):
        load_settings(folder / "below")
    assert load_settings(folder).account("beta corp").base_url == "https://proxy.beta.example/api/v1"
    monkeypatch.setenv("ORCOST_CONFIG", str(folder / "orcost.toml"))
    assert load_settings(folder / "below").account("beta corp").base_url == "https://proxy.beta.example/api/v1"


@pytest.mark.parametrize(
    "content",
    [
        f'"{"k" * 1_000_000}" = 1',
        f'a."{"k" * 1_000_000}" = 1\na."{"k" * 1_000_000}" = 2',
        f'[[accounts]]\nname = "{"k" * 1_000_000}"\napi_key_env = "A"',
        f"[reconciliation]\ntolerance_usd = '{'k' * 1_000_000}'",
    ],
)
def test_a_huge_mistake_is_told_in_few_words(folder: Path, content: str) -> None:
    (folder / "orcost.toml").write_text(content, encoding="utf-8")
    with pytest.raises(PermanentError) as caught:
        load_settings()
    assert len(str(caught.value)) < 600


def test_of_many_accounts_the_first_are_named(folder: Path) -> None:
    listed = "".join(f'[[accounts]]\nname = "a{number}"\napi_key_env = "A"\n' for number in range(1_000))
    (folder / "orcost.toml").write_text(listed, encoding="utf-8")
    with pytest.raises(PermanentError, match=r'called "b"\. Configured: a0, .*, a9, … and 990 more\.'):
        load_settings().account("b")

"""What is found at OpenRouter: keys, credits, addresses, servers that hang, and the clock."""

import re
import socket
import time
from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from orcost_pipeline.health import openrouter
from orcost_pipeline.health.examination import Limits
from orcost_pipeline.health.finding import Code
from orcost_pipeline.health.openrouter import Answer
from orcost_pipeline.simulator import Fault, Options
from orcost_pipeline.warehouse import accounts
from orcost_pipeline.warehouse.questions.health import recent_spend
from orcost_pipeline_tests.healthy_deployment import Deployment, base_url_of, fail, minutes_ago, spend_nothing
from orcost_pipeline_tests.world import DAY

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


# Keys, answers and the clock


def test_a_refused_key_is_invalid_since_it_was_first_refused(healthy: Deployment) -> None:
    healthy.simulator.inject(Fault("401", times=None))
    assert healthy.only("error", Code.INVALID_KEY, "acme").since is None
    for minutes in (50, 10):
        fail(healthy, minutes, "invalid_key", "Invalid API key: refused.")
    finding = healthy.only("error", Code.INVALID_KEY, "acme")
    assert finding.since == minutes_ago(healthy, 50)
    assert "OPENROUTER_API_KEY_ACME" in finding.todo
    assert finding.message.startswith("Invalid API key: OpenRouter refused the key of account")


def test_a_key_that_is_accepted_again_is_said_beside_the_failed_sync(healthy: Deployment) -> None:
    fail(healthy, 10, "invalid_key", "Invalid API key: refused.")
    finding = healthy.only("error", Code.SYNC_FAILED, "acme")
    assert (
        finding.message
        == "The last sync failed; OpenRouter accepts the key now. It had said:\nInvalid API key: refused."
    )
    assert finding.todo == "orcost sync --account acme"


def test_an_ordinary_key_is_told_what_works_and_what_does_not(healthy: Deployment) -> None:
    secret = next(iter(healthy.ledger.accounts["acme"].keys.values()))[0][1].secret
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME=secret)
    healthy.do("update ref.account set kind = 'ordinary'")
    finding = healthy.only("note", Code.ORDINARY_KEY, "acme")
    assert "calendar day" in finding.message
    assert "management-keys" in finding.todo
    healthy.do("update ref.account set kind = 'management'")
    assert "all its other keys would appear to cost nothing" in healthy.only("error", Code.ORDINARY_KEY, "acme").message


def test_credits_that_are_used_up_or_soon_will_be_are_said(healthy: Deployment) -> None:
    account = healthy.ledger.accounts["acme"]
    used = healthy.ledger.credits_used("acme", healthy.clock())
    with healthy.engine.connect() as connection:
        a_week = recent_spend(connection)["acme"].spend_7d_usd
    account.credits_bought = used + a_week * 3 / 7 + Decimal("0.01")
    assert healthy.examine() == []
    account.credits_bought = used + a_week * 3 / 7 - Decimal("0.01")
    finding = healthy.only("warning", Code.CREDITS_LOW, "acme")
    assert "2 days, at the pace of the last 7 days" in finding.message
    account.credits_bought = used
    assert healthy.examine() == [], "billed by invoice: it spends without credits"
    spend_nothing(healthy)
    account.credits_bought = healthy.ledger.credits_used("acme", healthy.clock())
    assert healthy.only("error", Code.NO_CREDITS, "acme").todo == "Buy credits: openrouter.ai/settings/credits"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "503", "502_html", "reset"])
def test_an_unreachable_openrouter_is_a_finding_within_seconds(healthy: Deployment, kind: str) -> None:
    healthy.simulator.inject(Fault(kind, times=None))  # type: ignore[arg-type]
    started = time.monotonic()
    healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme")
    assert time.monotonic() - started < 5


def test_a_hanging_openrouter_is_not_waited_for(healthy: Deployment) -> None:
    healthy.limits = Limits(answer=0.3)
    healthy.simulator.inject(Fault("hang", times=None, seconds=3))
    started = time.monotonic()
    finding = healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme")
    assert time.monotonic() - started < 2
    assert "did not answer in 0.3 seconds" in finding.message


def test_a_long_retry_after_is_not_waited_for(healthy: Deployment) -> None:
    healthy.limits = Limits(answer=0.3)
    healthy.simulator.inject(Fault("429", times=None, retry_after=30, match="/credits"))
    finding = healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme")
    assert "its last answer was 429" in finding.message


def test_a_name_that_no_server_resolves_holds_nothing_up(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy.limits = Limits(answer=0.3)
    resolve = socket.getaddrinfo

    def hang(host: str, *arguments: object, **options: object) -> object:
        time.sleep(3 if "openrouter" in str(host) else 0)
        return resolve(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    healthy.configure("https://openrouter.test/api/v1", ORCOST_DATABASE_URL="")
    started = time.monotonic()
    assert ("error", Code.OPENROUTER_UNREACHABLE, "acme") in healthy.said()
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("wrong", ["{}/nowhere", "ftp://openrouter.ai", "https://sk-or-v1-hush@openrouter.ai/api/v1"])
def test_a_wrong_address_is_told_as_such(healthy: Deployment, wrong: str) -> None:
    healthy.configure(wrong.format(base_url_of(healthy)))
    finding = healthy.only("error", Code.OPENROUTER_REFUSES, "acme")
    assert "OPENROUTER_BASE_URL" in finding.todo
    assert "hush" not in finding.message + finding.todo


def test_all_accounts_are_asked_at_the_same_time(healthy: Deployment) -> None:
    healthy.limits = Limits(answer=0.5)
    entries = [f'[[accounts]]\nname = "a{n}"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n' for n in range(8)]
    (healthy.folder / "orcost.toml").write_text("".join(entries))
    healthy.simulator.inject(Fault("hang", times=None, seconds=3))
    started = time.monotonic()
    unreachable = [it.account for it in healthy.examine() if it.code is Code.OPENROUTER_UNREACHABLE]
    assert unreachable == [f"a{n}" for n in range(8)]
    assert time.monotonic() - started < 2.5


def test_keys_that_are_not_in_the_tables_yet_are_named_up_to_three(healthy: Deployment) -> None:
    for name in ("Alpha", "Beta", "Gamma", "Delta", "Epsilon"):
        healthy.ledger.add_key("acme", name, healthy.clock())
    finding = healthy.only("note", Code.KEYS_MISSING, "acme")
    assert re.search(
        r'^5 keys .*: "\w+", "\w+", "\w+" and 2 more\. New keys come with the next sync\.$', finding.message
    )
    assert "orcost resync" in finding.todo
    assert "orcost sync --account acme" in finding.todo


def test_a_key_that_the_last_sync_should_have_seen_is_a_warning(healthy: Deployment) -> None:
    made_at = healthy.synced_at - DAY
    healthy.ledger.add_key("acme", "Overlooked", made_at)
    finding = healthy.only("warning", Code.KEYS_MISSING, "acme")
    assert "should have seen" in finding.message
    assert abs((finding.since or made_at + DAY) - made_at) < timedelta(seconds=1)


def test_an_account_without_any_key_may_be_the_wrong_account(healthy: Deployment) -> None:
    healthy.ledger.accounts["acme"].keys.clear()
    assert "another account" in healthy.only("warning", Code.NO_API_KEYS, "acme").todo


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (-400, ("error", "behind")),
        (-90, ("warning", "behind")),
        (30, None),
        (90, ("warning", "ahead")),
        (400, ("error", "ahead")),
    ],
)
def test_a_clock_that_is_off_is_told_by_the_server(
    healthy: Deployment, ahead: int, expected: tuple[str, str] | None
) -> None:
    healthy.ahead = timedelta(seconds=ahead)
    found = [it for it in healthy.examine() if it.account is None]
    assert [(it.severity, it.message.rstrip(".").split()[-1]) for it in found] == ([expected] if expected else [])
    assert {it.code for it in found} <= {Code.CLOCK_OFF}


def test_of_several_servers_the_one_that_differs_most_tells_the_clock() -> None:
    answers = [Answer(name, is_accepted=True, ahead=timedelta(seconds=s)) for name, s in (("a", 1), ("b", -90))]
    (finding,) = openrouter.clock_findings(answers)
    assert "90 seconds behind" in finding.message


# Another account


def test_the_key_of_another_account_is_told_before_any_sync(healthy: Deployment) -> None:
    healthy.ledger.add_account("globex", credits_bought=Decimal(9000))
    healthy.ledger.add_key("globex", "web", healthy.synced_at)
    other = healthy.ledger.accounts["globex"].management_key
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME=other)
    finding = healthy.only("error", Code.OTHER_ACCOUNT, "acme")
    assert finding.message.startswith(
        "The key belongs to a different OpenRouter account than the stored data: it is of org"
    )
    with healthy.engine.begin() as connection:
        accounts.confirm(connection, "acme", healthy.clock())
    assert ("error", Code.OTHER_ACCOUNT, "acme") not in healthy.said()


def rotate_all_into(healthy: Deployment, workspace_id: str) -> None:
    """All keys go at once; the new one is in another workspace. Nothing else tells whose account it is."""
    with healthy.engine.begin() as connection:
        connection.execute(sa.text("update ref.account set organization_id = null"))
    for key_hash in list(healthy.ledger.accounts["acme"].keys):
        healthy.ledger.delete("acme", key_hash, healthy.clock())
    healthy.ledger.add_key("acme", "new", healthy.clock(), workspace_id=workspace_id)


def test_keys_that_were_all_rotated_into_another_workspace_are_the_same_accounts(healthy: Deployment) -> None:
    rotate_all_into(healthy, healthy.ledger.add_workspace("acme", "Newest"))
    assert Code.OTHER_ACCOUNT not in [code for _, code, _ in healthy.said()]


@pytest.mark.parametrize(("options", "is_told"), [(Options(), True), (Options(workspaces_status=403), False)])
def test_where_workspaces_are_not_told_missing_keys_are_no_proof(
    healthy: Deployment, options: Options, is_told: bool
) -> None:
    rotate_all_into(healthy, healthy.ledger.accounts["acme"].workspaces[0].id)
    with healthy.engine.begin() as connection:
        connection.execute(sa.text("update raw.workspace set workspace_id = 'w'"))
        connection.execute(sa.text("update core.api_key_version set workspace_id = 'w'"))
    healthy.simulator.options = options
    assert (Code.OTHER_ACCOUNT in [code for _, code, _ in healthy.said()]) is is_told

"""Whose account a key is: another account's key changes nothing, and what one changed can be undone."""

import threading
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.errors import AccountTwiceError, OrcostError, OtherAccountError, PermanentError
from orcost_pipeline.settings import Account
from orcost_pipeline.simulator import Ledger, Options, small
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.identity import contradiction
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse import accounts, raw, runs
from orcost_pipeline.warehouse.questions.accounts import Evidence
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, after_step, usage

# Everything that readers see of an account and that is not about when it was read.
SEEN = {
    "ref.api_key": "key_hash, name, workspace_name, deleted_at, usage_usd, company",
    "ref.assignment": "key_hash, company, valid_from::text, share",
    "core.spend_hourly": "hour, company, key_hash, model, credits_usd, byok_usd, requests",
    "core.spend_daily": "day, company, key_hash, model, provider, credits_usd, byok_usd, requests, is_settled",
    "marts.company_spend_daily": "day, company, credits_usd, byok_usd, requests, is_settled",
    "marts.company_spend_monthly": "month, company, credits_usd, byok_usd, requests",
    "marts.company_spend_rolling": "period, company, credits_usd, byok_usd, requests",
    "marts.key_spend_rolling": "period, company, key_hash, credits_usd, byok_usd",
    "marts.unkeyed_spend_daily": "day, key_name, cause, credits_usd, byok_usd",
    "marts.reconciliation_daily": "day, account_credits_usd, keys_credits_usd, hours_credits_usd, status, cause",
}


def two_accounts() -> Ledger:
    """`acme`, and `globex` with two keys that cost more, in other hours, on other days, of other models too."""
    ledger = small(NOON)
    ledger.add_account("globex", credits_bought=Decimal(9000))
    first = ledger.add_key("globex", "web", NOON - 60 * DAY)
    second = ledger.add_key("globex", "batch", NOON - 60 * DAY)
    for at, key, model, usd in (
        (NOON - 3 * HOUR, first, GPT, "11"),
        (NOON - 1 * HOUR, first, CLAUDE, "600"),
        (NOON - 5 * DAY, second, GPT, "13"),
        (NOON - 10 * DAY, second, CLAUDE, "17"),
        (NOON - 10 * DAY, None, CLAUDE, "19"),
    ):
        ledger.spend("globex", at, key, model, usage(usd))
    return ledger


@pytest.fixture
def world(engine: sa.Engine) -> World:
    world = World(engine, two_accounts())
    world.map("A,key_name,Company A,,,", "B,key_name,Company B,,,", "G,key_name,web,,,")
    return world


def with_key_of(world: World, account: str) -> World:
    """The stored account goes on with the management key of an account of the ledger."""
    key = SecretStr(world.ledger.accounts[account].management_key)
    world.configured = world.configured.model_copy(update={"api_key": key})
    return world


def as_account(world: World, name: str, key_of: str) -> World:
    """The same ledger and database under another name."""
    other = World(world.engine, world.ledger, world.now, world.options)
    other.account = name
    other.configured = Account(
        name=name,
        api_key_env="OTHER_KEY",
        api_key=SecretStr(world.ledger.accounts[key_of].management_key),
        base_url=world.configured.base_url,
    )
    return other


def confirm(world: World) -> None:
    with world.engine.begin() as connection:
        accounts.confirm(connection, world.account, world.now)


def rebuild(world: World) -> None:
    with world.engine.begin() as connection:
        accounts.ask_for_rebuild(connection, world.account, world.now)
    world.sync()


def seen(world: World) -> dict[str, list[Any]]:
    """What readers see of the account."""
    return {
        relation: sorted(
            (tuple(row) for row in world.rows(f"select {columns} from {relation} where account = :account")), key=str
        )
        for relation, columns in SEEN.items()
    }


def history(world: World) -> list[Any]:
    return world.rows("select key_hash, valid_from, valid_to, is_deleted from ref.api_key_history order by 1, 2")


# Another account's key


def test_the_key_of_another_account_is_refused_before_usage_is_asked(world: World) -> None:
    world.sync()
    before, keys_before = seen(world), history(world)
    with pytest.raises(OtherAccountError) as refusal:
        with_key_of(world, "globex").later(hours=1).sync()
    told = str(refusal.value)
    assert 'The key of account "acme" belongs to another OpenRouter account: it is of organization org_globex' in told
    assert "Nothing was published" in told
    assert "orcost accounts confirm" in told
    assert not [it for it in world.simulator.requests if "analytics" in it.path or "activity" in it.path]
    assert (seen(world), history(world)) == (before, keys_before)
    with_key_of(world, "acme").later(hours=1).sync()
    world.assert_hours_are_true()
    world.assert_books_close()


def test_without_an_organization_keys_and_workspaces_tell_accounts_apart(world: World) -> None:
    world.options = Options(is_personal=True)
    world.__post_init__()
    world.sync()
    with pytest.raises(OtherAccountError, match="none of its 3 keys and 2 workspaces is among what OpenRouter lists"):
        with_key_of(world, "globex").later(hours=1).sync()


def test_another_accounts_key_is_refused_after_a_few_questions_however_many_keys_are_stored(world: World) -> None:
    for number in range(100):
        world.ledger.add_key("acme", f"key {number}", NOON - DAY)
    world.sync()
    world.simulator.forget_requests()
    with pytest.raises(OtherAccountError):
        with_key_of(world, "globex").later(hours=1).sync()
    assert sum(it.path.startswith("/keys/") for it in world.simulator.requests) == steps.MISSING_KEYS_ASKED_FIRST


def test_a_refused_sync_is_told_at_run_and_account(world: World) -> None:
    world.sync()
    with_key_of(world, "globex").later(hours=1)
    step = world.step()
    with pytest.raises(OtherAccountError) as refusal:
        world.read(step)
    error = refusal.value
    runs.fail(world.engine, step.run_id, "acme", error, str(error), world.now)
    assert world.rows("select status, error_code from ref.account") == [("failed", "other_account")]
    with_key_of(world, "acme").later(hours=1).sync()
    assert world.rows("select status, error, error_code from ref.account") == [("ok", None, None)]


@pytest.mark.slow
def test_all_keys_rotated_at_once_are_of_the_same_account(world: World) -> None:
    world.options = Options(is_personal=True)
    world.__post_init__()
    world.sync()
    for key in list(world.ledger.accounts["acme"].keys):
        world.ledger.delete("acme", key, world.now)
    world.ledger.add_key("acme", "Company A", world.now)
    world.later(hours=1).sync()
    assert world.value("select count(*) from ref.api_key where deleted_at is null") == 1
    world.assert_hours_are_true()


@pytest.mark.slow
def test_who_confirms_the_key_goes_on_once(world: World) -> None:
    world.sync()
    confirm(world)
    with_key_of(world, "globex").later(hours=1).sync()
    assert world.value("select confirmed_at from ref.account") is None
    with pytest.raises(OtherAccountError, match="orcost accounts rebuild"):
        with_key_of(world, "acme").later(hours=1).sync()


def evidence(**more: Any) -> Evidence:
    """Keys and workspaces of one letter each."""
    sets = ("keys", "deleted", "workspaces")
    return Evidence(**{name: frozenset(it) if name in sets else it for name, it in more.items()})


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (evidence(), evidence(keys="b", workspaces="w")),  # the first sync
        (evidence(workspaces="w"), evidence(keys="b", workspaces="w")),  # no key before
        (evidence(keys="a", workspaces="w"), evidence(keys="b", workspaces="w")),  # its only key rotated
        (evidence(keys="a", workspaces="w"), evidence(keys="a", workspaces="x")),  # moved to another workspace
        (evidence(keys="a", workspaces="w"), evidence(keys="ab")),  # workspaces are not told
        (evidence(keys="a"), evidence()),  # its only key deleted, workspaces not told
        (
            evidence(keys="a", credits_used_usd=Decimal(9), credits_total_usd=Decimal(50)),
            evidence(keys="a", credits_used_usd=Decimal(1), credits_total_usd=Decimal(20)),  # refunded
        ),
        (
            evidence(keys="a", workspaces="w", credits_used_usd=Decimal("9.005")),
            evidence(keys="b", workspaces="w", credits_used_usd=Decimal("9.000")),  # restated
        ),
        (evidence(keys="a", organization_id="o"), evidence(keys="b", workspaces="w", organization_id="o")),
    ],
)
def test_what_may_be_the_same_account_is_not_refused(stored: Evidence, told: Evidence) -> None:
    assert contradiction(stored, told) is None


@pytest.mark.parametrize(
    ("stored", "told", "sentence"),
    [
        (evidence(keys="a"), evidence(keys="b"), "none of its 1 key is among"),
        (evidence(keys="a", workspaces="w"), evidence(keys="b", workspaces="x"), "none of its 1 key and 1 workspace"),
        (evidence(keys="a", workspaces="w"), evidence(workspaces="x"), "0 keys in 1 workspace"),
        (evidence(workspaces="w"), evidence(keys="b", workspaces="x"), "none of its 0 keys and 1 workspace"),
        (evidence(organization_id="o"), evidence(organization_id="p"), "organization p, what is stored is of o"),
        (evidence(credits_used_usd=Decimal(9)), evidence(credits_used_usd=Decimal("8.98")), "credits used fell"),
        (
            evidence(keys="a", workspaces="w", credits_total_usd=Decimal(50)),
            evidence(keys="b", workspaces="w", credits_total_usd=Decimal(20)),
            "none of the stored keys is listed, and total credits bought fell from 50.00 to 20.00 USD",
        ),
        (evidence(deleted="a", keys="b"), evidence(keys="a"), "none of its 1 key"),
        (
            evidence(keys="abc", workspaces="w", credits_total_usd=Decimal(50), credits_used_usd=Decimal(2)),
            evidence(credits_total_usd=Decimal(900), credits_used_usd=Decimal(800)),
            "none of its 3 keys is listed, and 900.00 USD of credits were bought, not 50.00",
        ),
    ],
)
def test_what_cannot_be_the_same_account_is_refused(stored: Evidence, told: Evidence, sentence: str) -> None:
    assert sentence in (contradiction(stored, told) or "")


def test_a_rebuild_takes_keys_that_seem_deleted_for_proof() -> None:
    stored = evidence(deleted="a", keys="b", workspaces="wx", is_rebuild_requested=True)
    assert contradiction(stored, evidence(keys="a", workspaces="w")) is None
    assert contradiction(stored, evidence(keys="c", workspaces="y"))


def test_where_a_listing_was_refused_keys_that_are_missing_contradict_nothing() -> None:
    stored = evidence(keys="ab", workspaces="w", credits_used_usd=Decimal(5))
    told = evidence(keys="c", workspaces="x", credits_used_usd=Decimal(5))
    assert contradiction(stored, told)
    assert contradiction(stored, told._replace(is_whole=False)) is None
    assert contradiction(stored, told._replace(is_whole=False, credits_used_usd=Decimal(1)))


def test_a_key_that_changes_during_a_sync_ends_it(world: World) -> None:
    with world.engine.begin() as connection:
        raw.start_extraction(connection, "run", "acme", NOON, "a")
        assert raw.start_extraction(connection, "run", "acme", NOON + HOUR, "a") == NOON
        with pytest.raises(PermanentError, match="was changed during the sync"):
            raw.start_extraction(connection, "run", "acme", NOON, "b")


# Undoing it


@pytest.fixture
def mixed(world: World) -> World:
    """Two ledgers in one account, as they were mixed before anybody looked at whose key it is."""
    world.sync()
    confirm(world)
    with_key_of(world, "globex").later(hours=1).sync()
    return with_key_of(world, "acme").later(hours=1)


def clean(world: World, postgres_url: str) -> dict[str, list[Any]]:
    """What a warehouse shows that was synced at the same times with the right key."""
    with fresh_engine(postgres_url) as engine:
        other = World(engine, world.ledger, NOON, world.options)
        other.map("A,key_name,Company A,,,", "B,key_name,Company B,,,", "G,key_name,web,,,")
        other.sync()
        other.now = world.now
        other.sync()
        return seen(other)


@pytest.mark.slow
def test_two_mixed_ledgers_show_what_the_fault_was(mixed: World) -> None:
    assert mixed.value("select count(*) from ref.api_key where deleted_at is not null") == 3
    assert mixed.value("select count(*) from core.spend_hourly where credits_usd < 0") > 0


@pytest.mark.slow
def test_a_rebuild_undoes_what_another_accounts_key_did(mixed: World, postgres_url: str) -> None:
    rebuild(mixed)
    after = seen(mixed)
    for relation, rows in clean(mixed, postgres_url).items():
        assert after[relation] == rows, relation
    assert {row.is_deleted for row in history(mixed)} == {False}
    mixed.assert_hours_are_true()
    mixed.assert_days_are_true()
    mixed.assert_books_close()
    assert mixed.value("select rebuild_at from ref.account") is None
    mixed.later(hours=1).sync()
    mixed.assert_hours_are_true()


@pytest.mark.slow
@pytest.mark.parametrize("days", [3, 60])
def test_a_rebuild_that_comes_days_later_undoes_it_too(mixed: World, days: int) -> None:
    """The right key was put back and synced: totals agree again, keys and Unattributed do not."""
    confirm(mixed)
    mixed.sync()
    assert mixed.value("select count(*) from core.spend_hourly where credits_usd < 0") > 0
    mixed.later(days=days)
    rebuild(mixed)
    mixed.assert_hours_are_true(24 * (days + 20))
    mixed.assert_days_are_true(days + 20)
    mixed.assert_books_close()
    assert {row.name for row in mixed.rows("select name from ref.api_key")} == {"Company A", "Company B", "Company C"}
    assert not mixed.rows("select day from marts.reconciliation_daily where status = 'open'")


@pytest.mark.slow
@pytest.mark.parametrize("deleted_by_hash", ["rows", "empty", "warning"])
def test_a_rebuild_keeps_what_openrouter_no_longer_tells(world: World, deleted_by_hash: Any) -> None:
    """A deleted key keeps its usage, a month that OpenRouter no longer tells its days."""
    world.options = Options(deleted_by_hash=deleted_by_hash, deleted_activity="404", deleted_name="null")
    world.__post_init__()
    world.sync()
    first = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.delete("acme", first, world.now)
    world.later(hours=1).sync()
    before = world.rows(
        "select day, key_hash, company, sum(credits_usd) from core.spend_daily group by 1, 2, 3 order by 1, 2, 3"
    )
    assert sum(row[3] for row in before if row[1] == first) > 0
    rebuild(world)
    after = world.rows(
        "select day, key_hash, company, sum(credits_usd) from core.spend_daily group by 1, 2, 3 order by 1, 2, 3"
    )
    assert after == before
    assert world.rows("select deleted_at from ref.api_key where key_hash = :key", key=first) != [(None,)]


@pytest.mark.slow
def test_a_rebuild_leaves_days_beyond_the_reach_alone(world: World) -> None:
    world.sync()
    old = world.rows("select day, sum(credits_usd) from core.spend_daily group by 1 order by 1")
    world.later(days=500)
    world.ledger.spend("acme", world.now - HOUR, next(iter(world.ledger.accounts["acme"].keys)), GPT, usage("4"))
    rebuild(world)
    kept = dict(world.rows("select day, sum(credits_usd) from core.spend_daily group by 1"))
    assert all(kept[day] == usd for day, usd in old)
    assert kept[world.now.date()] == 4


@pytest.mark.slow
def test_a_rebuild_that_fails_changes_nothing(mixed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(mixed)

    def broken(*_: object) -> None:
        raise OrcostError("in the middle")

    after_step("reassigned_day", monkeypatch, broken)
    with pytest.raises(OrcostError, match="in the middle"):
        rebuild(mixed)
    assert seen(mixed) == before
    monkeypatch.undo()
    mixed.sync()
    mixed.assert_hours_are_true()


@pytest.mark.slow
def test_a_rebuild_with_a_key_of_a_third_account_is_refused(mixed: World) -> None:
    mixed.ledger.add_account("initech", credits_bought=Decimal(1))
    mixed.ledger.add_key("initech", "one", NOON - DAY)
    with_key_of(mixed, "initech")
    before = seen(mixed)
    with pytest.raises(OtherAccountError):
        rebuild(mixed)
    assert seen(mixed) == before


# One account under two names


@pytest.mark.slow
def test_one_account_under_two_names_is_refused_before_it_is_published(world: World) -> None:
    world.sync()
    other = as_account(world, "again", "acme")
    with pytest.raises(AccountTwiceError) as refusal:
        other.sync()
    assert 'Account "again" has keys that account "acme" has already ("Company A" and 2 more)' in str(refusal.value)
    assert 'orcost accounts rename "acme" "again"' in str(refusal.value)
    assert not [it for it in other.simulator.requests if "analytics" in it.path or "activity" in it.path]
    assert world.rows("select distinct account from core.spend_daily") == [("acme",)]
    world.later(hours=1).sync()


@pytest.mark.parametrize("is_ordinary_first", sampled([True, False], 1))
def test_an_ordinary_key_and_the_management_key_that_lists_it_count_once(world: World, is_ordinary_first: bool) -> None:
    key = next(iter(world.ledger.accounts["acme"].keys.values()))[0][1]
    single = as_account(world, "single", "acme")
    single.configured = single.configured.model_copy(update={"api_key": SecretStr(key.secret)})
    first, second = (single, world) if is_ordinary_first else (world, single)
    first.sync()
    with pytest.raises(AccountTwiceError, match=r'[Rr]emove "single" from orcost\.toml'):
        second.sync()
    assert world.rows("select distinct account from core.spend_hourly") == [(first.account,)]


def test_of_two_first_syncs_at_once_one_is_refused(world: World) -> None:
    both = [world, as_account(world, "again", "acme")]
    read = []
    for one in both:
        step = one.step()
        one.read(step)
        read.append(step)
    outcomes: list[object] = []

    def publish(step: SyncStep) -> None:
        try:
            outcomes.append(steps.publish_account(step))
        except AccountTwiceError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=publish, args=(step,)) for step in read]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(it).__name__ for it in outcomes) == ["AccountTwiceError", "Published"]
    assert len(world.rows("select distinct account from core.spend_daily")) == 1


@pytest.mark.slow
def test_of_two_that_count_twice_already_the_younger_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = as_account(world, "again", "acme")
    with monkeypatch.context() as patched:
        patched.setattr("orcost_pipeline.warehouse.accounts.holder", lambda *_: None)
        world.sync()
        other.sync()
    world.later(hours=1).sync()
    with pytest.raises(AccountTwiceError):
        other.later(hours=1).sync()


@pytest.mark.slow
def test_a_rebuild_without_analytics_drops_what_another_account_was_counted(world: World) -> None:
    world.options = Options(analytics_status=403)
    world.__post_init__()
    world.sync()
    before = {name: seen(world)[name] for name in ("ref.api_key", "core.spend_daily", "marts.company_spend_daily")}
    confirm(world)
    with_key_of(world, "globex").later(minutes=10).sync()
    with_key_of(world, "acme").later(minutes=10)
    assert world.value("select sum(credits_usd) from core.spend_daily") > 600
    rebuild(world)
    after = seen(world)
    assert {name: after[name] for name in before} == before
    world.assert_books_close()

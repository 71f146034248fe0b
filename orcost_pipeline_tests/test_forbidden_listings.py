"""A valid key that may not ask everything: what is told is published, what is not told stays as last known and is named
in a warning, and nothing counts as deleted because a listing was refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orcost_pipeline.errors import ForbiddenError, InvalidKeyError
from orcost_pipeline.simulator import Ledger, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.simulator.faults import BASE_PATH
from orcost_pipeline.simulator.wire import ApiError
from orcost_pipeline.warehouse import runs
from orcost_pipeline_tests.processes import Outcome, clean_environment, orcost
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

BOTH_REFUSED = Options(workspaces_status=403, members_status=403)


@dataclass
class Keys:
    """The account: a key in the default workspace, one in Production, one in Lab; Ada made them all."""

    ledger: Ledger
    production: str
    lab: str
    default_key: str
    production_key: str
    lab_key: str


def make_keys() -> Keys:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    ledger.add_member("acme", "ada@acme.example", "Ada", "Admin", id="user_ada")
    production, lab = (ledger.add_workspace("acme", name) for name in ("Production", "Lab"))
    hashes = [
        ledger.add_key("acme", name, NOON - 40 * DAY, workspace_id=workspace, creator_user_id="user_ada")
        for name, workspace in (("Web", None), ("Shop", production), ("Trial", lab))
    ]
    for number, key_hash in enumerate(hashes, 1):
        for at in (NOON - HOUR, NOON - 3 * DAY):
            ledger.spend("acme", at, key_hash, GPT, usage(Decimal(number) / 8))
    return Keys(ledger, production, lab, *hashes)


@pytest.fixture
def keys() -> Keys:
    return make_keys()


@pytest.fixture
def world(engine: sa.Engine, keys: Keys) -> World:
    return World(engine, keys.ledger)


def restricted(world: World, **options: Any) -> World:
    world.simulator.options = replace(Options(), **options)
    return world


def living(world: World) -> set[str]:
    return {row[0] for row in world.rows("select key_hash from ref.api_key where deleted_at is null")}


def refused_since(world: World) -> tuple[datetime | None, datetime | None]:
    return tuple(world.rows("select workspaces_refused_since, members_refused_since from ref.account")[0])


def known_of(world: World, key_hash: str) -> tuple[str, str | None, str | None]:
    statement = "select name, workspace_name, creator_email from ref.api_key where key_hash = :key_hash"
    return tuple(world.rows(statement, key_hash=key_hash)[0])


# ── workspaces and members ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_sync_of_a_key_that_may_list_neither_publishes_what_is_told(world: World, keys: Keys) -> None:
    restricted(world, workspaces_status=403, members_status=403).sync()
    assert living(world) == {keys.default_key}
    assert world.rows("select status, kind from ref.account") == [("ok", "management")]
    assert refused_since(world) == (NOON, NOON)
    # What keys of other workspaces spend is the account's all the same, and its cause has their names.
    assert world.value("select sum(credits_usd) from marts.company_spend_daily") == Decimal("1.5")
    names = {row[0] for row in world.rows("select key_name from marts.unkeyed_spend_daily")}
    assert names == {"Shop", "Trial"}
    world.assert_books_close()


@pytest.mark.slow
def test_names_stay_as_last_known_and_the_warning_begins_where_they_were_told_last(world: World, keys: Keys) -> None:
    world.sync()
    assert refused_since(world) == (None, None)
    refused_at = restricted(world.later(hours=1), workspaces_status=403, members_status=403).now
    world.sync()
    assert known_of(world, keys.production_key) == ("Shop", "Production", "ada@acme.example")
    assert living(world) == {keys.default_key, keys.production_key, keys.lab_key}
    world.later(hours=1).sync()
    assert refused_since(world) == (refused_at, refused_at)
    assert world.value("select count(*) from core.api_key_version") == 3
    restricted(world.later(hours=1)).sync()
    assert refused_since(world) == (None, None)
    assert world.value("select count(*) from core.api_key_version") == 3


def test_a_new_key_has_the_names_that_are_known_of_its_workspace_and_its_creator(world: World, keys: Keys) -> None:
    world.sync()
    restricted(world.later(hours=1), workspaces_status=403, members_status=403)
    new = keys.ledger.add_key("acme", "New", world.now, workspace_id=keys.production, creator_user_id="user_ada")
    world.later(minutes=1).sync()
    assert known_of(world, new) == ("New", "Production", "ada@acme.example")


def test_keys_of_known_workspaces_are_listed_although_no_workspace_is(world: World, keys: Keys) -> None:
    world.sync()
    restricted(world.later(hours=1), workspaces_status=403)
    keys.ledger.spend("acme", world.now, keys.lab_key, GPT, usage("3"))
    world.later(minutes=5).sync()
    asked = world.simulator.asked("/keys")
    assert [request.params.get("workspace_id") for request in asked].count(None) == 1
    assert not [request for request in asked if request.path != "/keys"]
    world.assert_hours_are_true()
    world.assert_books_close()


def test_a_key_that_is_gone_from_a_workspace_that_answers_is_deleted(world: World, keys: Keys) -> None:
    world.sync()
    restricted(world.later(hours=1), workspaces_status=403)
    keys.ledger.delete("acme", keys.production_key, world.now)
    world.later(minutes=1).sync()
    assert living(world) == {keys.default_key, keys.lab_key}
    world.assert_hours_are_true()


@pytest.mark.slow
def test_listings_that_count_more_than_they_tell_are_published_with_a_warning(world: World, keys: Keys) -> None:
    restricted(world, untold_rows=6).sync()
    assert living(world) == {keys.default_key, keys.production_key, keys.lab_key}
    assert known_of(world, keys.lab_key) == ("Trial", "Lab", "ada@acme.example")
    assert refused_since(world) == (NOON, NOON)
    world.ledger.delete("acme", keys.lab_key, world.now)
    world.later(hours=1).sync()
    assert living(world) == {keys.default_key, keys.production_key}
    restricted(world).later(hours=1).sync()
    assert refused_since(world) == (None, None)
    world.assert_days_are_true()


def test_members_alone_may_be_refused(world: World) -> None:
    restricted(world, members_status=403).sync()
    assert refused_since(world) == (None, NOON)
    assert world.value("select count(*) from ref.api_key") == 3


def test_a_personal_account_has_no_members_and_no_warning(world: World) -> None:
    restricted(world, is_personal=True).sync()
    assert refused_since(world) == (None, None)


# ── one workspace ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", sampled([403, 404], 1))
def test_keys_of_a_workspace_that_does_not_list_them_live_as_long_as_they_answer(
    world: World, keys: Keys, status: int
) -> None:
    world.sync()
    restricted(world.later(hours=1), refused_workspaces=frozenset({keys.lab}), refused_status=status)
    keys.ledger.spend("acme", world.now, keys.lab_key, GPT, usage("3"))
    world.later(minutes=5).sync()
    assert living(world) == {keys.default_key, keys.production_key, keys.lab_key}
    assert refused_since(world) == (world.now, None)
    world.assert_hours_are_true()
    world.assert_books_close()


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 404])
def test_a_key_whose_workspace_refuses_is_not_deleted_by_what_its_hash_answers(
    world: World, keys: Keys, status: int
) -> None:
    world.sync()
    options = Options(refused_workspaces=frozenset({keys.lab}), refused_status=status, refused_key_status=status)
    world.simulator.options = options
    keys.ledger.spend("acme", world.later(hours=1).now, keys.lab_key, GPT, usage("3"))
    world.later(minutes=5).sync()
    assert living(world) == {keys.default_key, keys.production_key, keys.lab_key}
    world.assert_hours_are_true()
    keys.ledger.delete("acme", keys.production_key, world.later(hours=1).now)
    world.later(minutes=1).sync()
    assert living(world) == {keys.default_key, keys.lab_key}


def test_where_every_workspace_refuses_the_keys_listed_without_a_filter_are_told(world: World, keys: Keys) -> None:
    honest = world.simulator.handle

    def only_without_filter(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"{BASE_PATH}/keys" and "workspace_id" in request.url.params:
            return ApiError(403, "Not this workspace").response()
        return honest(request)

    world.simulator.handle = only_without_filter  # type: ignore[method-assign]
    world.sync()
    assert living(world) == {keys.default_key}
    assert refused_since(world) == (NOON, None)


# ── what else may be refused ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", sampled([403, 404], 1))
def test_credits_that_are_not_told_are_unknown(world: World, status: int) -> None:
    world.sync()
    assert world.value("select credits_total_usd from ref.account") == 500
    restricted(world.later(hours=1), credits_status=status).sync()
    assert world.rows("select credits_total_usd, credits_used_usd, status, as_of from ref.account") == [
        (None, None, "ok", world.now)
    ]


def test_prices_that_are_not_told_stop_nothing_and_are_asked_for_again(world: World) -> None:
    restricted(world, models_status=403).sync()
    assert world.value("select count(*) from raw.model") == 0
    restricted(world.later(hours=1)).sync()
    assert world.value("select count(*) from raw.model") > 0


def test_a_key_whose_activity_is_refused_keeps_its_hours_as_its_days(world: World, keys: Keys) -> None:
    honest = world.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("api_key_hash") == keys.lab_key:
            return ApiError(403, "Not this key").response()
        return honest(request)

    world.simulator.handle = handle  # type: ignore[method-assign]
    world.sync()
    world.assert_days_are_true()
    sources = world.rows("select distinct source from core.spend_daily where key_hash = :key", key=keys.lab_key)
    assert sources == [("hours",)]


def answering_403(world: World, path: str) -> Callable[[httpx.Request], httpx.Response]:
    honest = world.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"{BASE_PATH}{path}":
            return ApiError(403, "Not allowed").response()
        return honest(request)

    return handle


def test_only_what_the_key_says_of_itself_makes_it_invalid(world: World) -> None:
    world.sync()
    world.simulator.handle, honest = answering_403(world, "/keys"), world.simulator.handle  # type: ignore[method-assign]
    with pytest.raises(ForbiddenError, match="GET /keys") as refused:
        world.sync()
    assert runs.account_status(refused.value) == "failed"
    world.simulator.handle = honest  # type: ignore[method-assign]
    world.simulator.handle = answering_403(world, "/key")  # type: ignore[method-assign]
    with pytest.raises(InvalidKeyError, match=r"^Invalid API key: .*\(403, ") as invalid:
        world.sync()
    assert runs.account_status(invalid.value) == "invalid_key"


# ── as an operator sees it ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Site:
    """A folder whose account answers on a real port."""

    folder: Path
    environment: dict[str, str]
    simulator: Simulator
    engine: sa.Engine

    def run(self, *arguments: str) -> Outcome:
        return orcost(self.folder, self.environment, *arguments)


@pytest.fixture
def site(engine: sa.Engine, database_url: str, tmp_path: Path) -> Iterator[Site]:
    ledger = small(datetime.now(UTC))
    simulator = Simulator(ledger)
    ours = clean_environment()
    key = ledger.accounts["acme"].management_key
    with serve(simulator) as url:
        ours |= {"ORCOST_DATABASE_URL": database_url, "OPENROUTER_API_KEY": key, "OPENROUTER_BASE_URL": url}
        yield Site(tmp_path, ours, simulator, engine)


@pytest.mark.slow
def test_an_operator_connects_syncs_and_is_warned(site: Site) -> None:
    site.simulator.options = replace(BOTH_REFUSED, credits_status=403)
    connected = site.run("init")
    assert connected.returncode == 0, connected.stderr
    assert "a management key, which lists 2 keys. Balance: unknown to this key.\n" in connected.stdout
    assert "OpenRouter does not list all workspaces for it: keys of others may be missing." in connected.stdout
    synced = site.run("sync")
    assert synced.returncode == 0, synced.stderr
    for command in ("status", "doctor"):
        told = site.run(command, "--format", "json")
        assert told.returncode == 0, told.stdout
        assert '"code": "workspaces_unknown"' in told.stdout
        assert '"code": "members_unknown"' in told.stdout
        assert '"severity": "error"' not in told.stdout
    site.simulator.options = Options()
    assert site.run("sync").returncode == 0
    assert "_unknown" not in site.run("doctor", "--format", "json").stdout

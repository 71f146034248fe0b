"""Bad days of the other side, on a real port and a real Postgres: a fault that passes is survived within one sync, and
the figures are the ledger's to the last digit; one that stays ends in a sentence, changes no figure that anybody reads,
and is made good by the next sync. Never silently wrong.
"""

import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.defs.resources import Surroundings
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.project_file import Source
from orcost_pipeline.settings import Account, Settings
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE
from orcost_pipeline.simulator.faults import BASE_PATH
from orcost_pipeline.sync import steps
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.processes import Outcome, clean_environment, orcost
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, PATIENCE, World, usage

# Seconds: an honest answer of the simulator never takes the one, a hanging one is let go after the other.
AMPLE, SHORT = 30.0, 0.4
# Seconds for which a client asks again: faults that pass do so sooner, those that stay are soon given up.
PATIENT, IMPATIENT = 20.0, 0.15

Asks = Callable[[httpx.Request], bool]


def at(path: str, is_of_one_key: bool | None = None) -> Asks:
    """Requests to exactly this path; of usage, those for one key alone, or for the whole account alone."""

    def asks(request: httpx.Request) -> bool:
        names_a_key = "api_key_hash" in request.url.params or b'"filters"' in request.content
        return request.url.path == BASE_PATH + path and is_of_one_key in (None, names_a_key)

    return asks


# Every question that a sync puts; a question about one key by its hash proves that it is gone.
QUESTIONS: dict[str, Asks] = {
    "key": at("/key"),
    "credits": at("/credits"),
    "workspaces": at("/workspaces"),
    "members": at("/organization/members"),
    "models": at("/models"),
    "keys": at("/keys"),
    "gone key": lambda request: request.url.path.startswith(f"{BASE_PATH}/keys/"),
    "activity": at("/activity", False),
    "activity of a key": at("/activity", True),
    "analytics": at("/analytics/query", False),
    "analytics of keys": at("/analytics/query", True),
}


@dataclass
class PortWorld(World):
    """A world whose account answers on a real port. `timeout` is what one request may take."""

    base_url: str = ""
    timeout: float = AMPLE
    patience: float = PATIENT
    transport: httpx.AsyncBaseTransport | None = None
    run_id: str = ""

    def connect(self, account: Account, key: SecretStr, clock: Callable[[], datetime]) -> OpenRouter:
        return OpenRouter(
            account.name,
            key,
            self.base_url,
            key_env="OPENROUTER_API_KEY_ACME",
            transport=self.transport,
            timeout=self.timeout,
            patience=self.patience,
            analytics_per_minute=100_000,
            backoff=0.001,
            clock=clock,
        )

    def attempt(self) -> str | None:
        """One sync; what it says where it fails as in production, with a sentence at the run and at the account."""
        self.simulator.forget_requests()
        step = self.step()
        self.run_id = step.run_id
        try:
            self.read(step)
            steps.publish_account(step)
        except OrcostError as error:
            return runs.fail(self.engine, step.run_id, self.account, error, str(error), self.now)
        return None

    def fail(self, *faults: Fault) -> str:
        """A sync under faults that it cannot survive: it says so, and whoever reads sees what was there before."""
        before = self.figures()
        self.forget_models()
        self.simulator.inject(*faults)
        self.patience = IMPATIENT
        error = self.attempt()
        self.patience = PATIENT
        self.simulator.clear_faults()
        assert error is not None
        self.assert_said(error)
        assert self.figures() == before
        return error

    def forget_models(self) -> None:
        """Prices are asked for once a day; the next sync asks again."""
        with self.engine.begin() as connection:
            connection.execute(sa.text("delete from raw.extracted where relation = 'model'"))

    def assert_said(self, error: str) -> None:
        """At the account and at its run; three lines at most, none of them the key."""
        assert self.rows("select error from ref.account") == [(error,)]
        assert self.run("status, error") == ("failed", error)
        assert len(error.splitlines()) <= 3
        assert self.ledger.accounts[self.account].management_key[-12:] not in error

    def succeed(self, *faults: Fault) -> None:
        """A sync that is exact, whatever it suffers."""
        self.simulator.inject(*faults)
        error = self.attempt()
        self.simulator.clear_faults()
        assert error is None, error
        self.assert_exact()

    def assert_exact(self) -> None:
        self.assert_hours_are_true()
        self.assert_days_are_true()
        self.assert_books_close()
        assert self.rows("select status, error, as_of from ref.account") == [("ok", None, self.now)]

    def figures(self) -> list[Any]:
        """Every row of every relation that is published; of the account, all but how it is."""
        relations = self.rows(
            "select table_schema || '.' || table_name from information_schema.tables where table_schema in "
            "('ref', 'core', 'marts') and (table_schema, table_name) <> ('ref', 'account') order by 1"
        )
        assert len(relations) > 20
        parts = [f"select '{name}' as name, t::text as content from {name} t" for (name,) in relations]
        parts.append("select 'ops.restatement', t::text from ops.restatement t")
        kept = "array['status', 'error', 'checked_at']"
        parts.append(f"select 'ref.account', (to_jsonb(t) - {kept})::text from ref.account t where as_of is not null")
        return [tuple(row) for row in self.rows(f"{' union all '.join(parts)} order by 1, 2")]

    def run(self, columns: str) -> tuple[Any, ...]:
        """What ops.sync_run says of the last sync."""
        return tuple(self.rows(f"select {columns} from ops.sync_run where run_id = :run_id", run_id=self.run_id)[0])

    def status(self) -> str:
        return str(self.value("select status from ref.account"))


def spend(ledger: Ledger, now: datetime, keys: list[str], factor: int = 1) -> None:
    """Something for each key in the last hours, some of it free, BYOK or without a key."""
    for number, key in enumerate(keys):
        at_ = now - timedelta(minutes=7 + 13 * number)
        ledger.spend("acme", at_, key, GPT, usage(Decimal(7 * factor * (number + 1)).scaleb(-9)))
        ledger.spend("acme", at_ - 2 * HOUR, key, CLAUDE, usage("0.01", "0.0033"), provider="Azure")
    ledger.spend("acme", now - timedelta(minutes=3), None, CLAUDE, usage("0.123456789"))
    ledger.spend("acme", now - timedelta(minutes=4), keys[0], LLAMA_FREE, usage("0", requests=3))


def account(now: datetime = NOON) -> tuple[Ledger, list[str]]:
    """Four keys in two workspaces, two of one name, with a past of ten days."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    creator = ledger.add_member("acme", "ada@acme.example")
    production = ledger.add_workspace("acme", "Production")
    keys = [
        ledger.add_key("acme", name, now - 40 * DAY + i * HOUR, workspace_id=(None, production)[i % 2], **more)
        for i, (name, more) in enumerate(
            [("Company A", {}), ("Twin", {}), ("Twin", {"creator_user_id": creator}), ("Company B", {})]
        )
    ]
    for day in (10, 3, 1, 0):
        spend(ledger, now - day * DAY, keys, day + 1)
    return ledger, keys


MAPPING = (
    "A,key_name,Company A,,,",
    "B,workspace,Production,,,60",
    "C,workspace,Production,,,40",
    "D,creator,ada@*,,,",
)


@pytest.fixture
def fresh(engine: sa.Engine) -> Iterator[PortWorld]:
    """An account that was never synced."""
    ledger, _ = account()
    world = PortWorld(engine, ledger)
    world.map(*MAPPING)
    with serve(world.simulator) as world.base_url:
        yield world


@pytest.fixture(scope="module")
def synced_once(postgres_url: str) -> Iterator[str]:
    """The name of a database in which the account was just synced."""
    with fresh_database(postgres_url) as url:
        engine = connect(url)
        world = PortWorld(engine, account()[0])
        world.map(*MAPPING)
        with serve(world.simulator) as world.base_url:
            world.succeed()
        engine.dispose()
        yield sa.make_url(url).database or ""


@pytest.fixture
def database_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """That of an account that was synced, for who asks for it; a fresh one for all others."""
    template = request.getfixturevalue("synced_once") if "world" in request.fixturenames else "orcost"
    with fresh_database(postgres_url, template) as url:
        yield url


@pytest.fixture
def world(engine: sa.Engine) -> Iterator[PortWorld]:
    """An account that was synced, and a day later: every question has news to tell."""
    world = PortWorld(engine, account()[0])
    with serve(world.simulator) as world.base_url:
        a_day_later(world)
        yield world


def a_day_later(world: PortWorld) -> None:
    """New spend, a new key, a renamed one, one that is gone, and a settled day restated."""
    world.later(days=1)
    ledger, now = world.ledger, world.now
    living = [key.hash for key in ledger.accounts["acme"].living_keys(now)]
    spend(ledger, now, living)
    made = ledger.add_key("acme", f"Made {now:%d}", now - timedelta(minutes=50))
    ledger.spend("acme", now - timedelta(minutes=40), made, GPT, usage("0.7"))
    ledger.rename("acme", living[0], f"Renamed {now:%d}", now - timedelta(minutes=30))
    ledger.delete("acme", living[-1], now - timedelta(minutes=20))
    ledger.restate("acme", (now - 5 * DAY).date(), living[0], GPT, factor=Decimal(3))


def test_each_question_of_a_sync_is_one_that_a_fault_can_meet(world: PortWorld) -> None:
    met: set[str] = set()

    def notes(request: httpx.Request) -> bool:
        met.update(names := [name for name, asks in QUESTIONS.items() if asks(request)])
        assert len(names) == 1
        return False

    world.succeed(Fault("500", match=notes, times=None))
    assert met == set(QUESTIONS)


# ── a fault that passes ──────────────────────────────────────────────────────────────────────────────────────────────

QUICK = ["408 429", "403_html 502_html", "500 503", "reset cut_body", "cut_json_200 garbled", "html_200 html_200"]


@pytest.mark.parametrize("kinds", sampled(QUICK, 1))
def test_faults_that_meet_every_question_twice_are_survived(world: PortWorld, kinds: str) -> None:
    for kind in kinds.split():
        world.simulator.inject(*(Fault(kind, times=2, match=asks) for asks in QUESTIONS.values()))  # type: ignore[arg-type]
    world.succeed()
    assert world.run("requests_made") == (world.simulator.count,)
    assert world.simulator.count > 4 * len(QUESTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_an_answer_that_takes_for_ever_is_let_go_and_asked_for_again(world: PortWorld, kind: Any) -> None:
    world.timeout = SHORT
    slow = [QUESTIONS[name] for name in ("key", "analytics", "activity of a key")]
    started = time.monotonic()
    world.succeed(*(Fault(kind, match=asks, seconds=3 * SHORT) for asks in slow))
    assert time.monotonic() - started >= len(slow) * SHORT


class Detour(httpx.AsyncBaseTransport):
    """Sends the first `times` requests to a port at which nobody listens."""

    def __init__(self, port: int, times: int) -> None:
        self.port, self.times = port, times

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.times -= 1
        if self.times >= 0:
            request.url = request.url.copy_with(port=self.port)
        # One transport a question: a connection belongs to the loop that opened it.
        async with httpx.AsyncHTTPTransport() as transport:
            answer = await transport.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_a_server_that_is_restarted_meanwhile_is_asked_again(world: PortWorld) -> None:
    world.transport = Detour(closed_port(), times=3)
    world.succeed()


@pytest.mark.slow
def test_retry_after_is_waited_for(world: PortWorld) -> None:
    started = time.monotonic()
    world.succeed(Fault("429", retry_after=1, match=QUESTIONS["analytics"]))
    assert time.monotonic() - started >= 1


@pytest.mark.slow
def test_a_server_that_asks_for_an_hour_is_asked_once_more_before(world: PortWorld) -> None:
    """No pause is longer than a fifth of a client's patience."""
    world.patience = 1.0
    world.succeed(*(Fault("429", retry_after=3600, match=asks) for asks in QUESTIONS.values()))


@pytest.fixture
def crowded(engine: sa.Engine) -> Iterator[PortWorld]:
    """An account of 230 keys, never synced: one that the listing skips would be spend without a key."""
    ledger = Ledger()
    ledger.add_account("acme")
    keys = [ledger.add_key("acme", f"key {number}", NOON - DAY + number * HOUR / 99) for number in range(230)]
    for key in keys[::10] + keys[95:106] + keys[195:206]:
        ledger.spend("acme", NOON - HOUR, key, GPT, usage("0.5"))
    crowded = PortWorld(engine, ledger)
    with serve(crowded.simulator) as crowded.base_url:
        yield crowded


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shifted_page", "repeated_page"])
def test_a_listing_that_repeats_a_key_or_skips_one_costs_none_its_name(crowded: PortWorld, kind: Any) -> None:
    crowded.succeed(Fault(kind), Fault(kind, skip=2))
    assert crowded.value("select count(*) from ref.api_key") == 230
    assert crowded.value("select count(*) from core.spend_hourly where key_hash is null") == 0


@pytest.mark.slow
def test_keys_deleted_and_made_while_they_are_listed_cost_no_other_its_name(crowded: PortWorld) -> None:
    ledger = crowded.ledger
    keys = list(ledger.accounts["acme"].keys)

    def meanwhile(request: httpx.Request) -> bool:
        if at("/keys")(request) and request.url.params["offset"] != "0" and len(ledger.accounts["acme"].keys) == 230:
            for key in keys[1:10]:
                ledger.delete("acme", key, NOON - timedelta(seconds=1))
            ledger.add_key("acme", "made", NOON - timedelta(seconds=1))
        return False

    crowded.succeed(Fault("500", match=meanwhile))
    assert crowded.value("select count(*) from ref.api_key") == 230 - 9 + 1
    assert crowded.value("select count(*) from core.spend_hourly where key_hash is null") == 0


def test_an_answer_that_says_it_is_truncated_is_asked_for_in_parts(world: PortWorld) -> None:
    parts = [("analytics", 5), ("analytics of keys", 1)]
    world.succeed(*(Fault("truncated_flag", times=times, match=QUESTIONS[name]) for name, times in parts))


def test_the_first_sync_of_all_survives_what_later_ones_do(fresh: PortWorld) -> None:
    fresh.succeed(*(Fault(kind, match=asks) for asks in QUESTIONS.values() for kind in ("500", "reset", "cut_body")))


# ── a fault that stays ───────────────────────────────────────────────────────────────────────────────────────────────

DOWN = "OpenRouter or the network is down; the next sync catches up."
FOR_EVER = {
    "402": (
        "failed",
        "answered 402 (Insufficient credits).\nThe account has no credits left: buy some at openrouter.ai/s",
    ),
    "403_html": (
        "unreachable",
        "answered 403 with a page of HTML. That is a firewall or a proxy, not OpenRouter; the n",
    ),
    "408": ("unreachable", "answered 408 (Operation timed out. Please try again later.). "),
    "429": (
        "unreachable",
        "answered 429 (Rate limit exceeded). OpenRouter's rate limit is reached; the next sync c",
    ),
    "500": (
        "unreachable",
        "answered 500 (Internal Server Error). OpenRouter has a server error; the next sync catches up.",
    ),
    "502_html": (
        "unreachable",
        "answered 502 with a page of HTML. OpenRouter has a server error; the next sync catches up.",
    ),
    "503": (
        "unreachable",
        "answered 503 (Service temporarily unavailable). OpenRouter has a server error; the next sync cat",
    ),
    "reset": ("unreachable", f"closed the connection. {DOWN}"),
    "cut_body": ("unreachable", f"closed the connection in the middle of its answer. {DOWN}"),
    "garbled": ("unreachable", f"answered what cannot be decoded. {DOWN}"),
    "cut_json_200": ("failed", "answered 200 with a body that is not JSON. Attempts: {}; nothing was published."),
    "html_200": (
        "failed",
        "answered 200 with a page of HTML instead of JSON: a proxy or a log-in page stands in between.",
    ),
}
KINDS = list(FOR_EVER)


def assert_fails(world: PortWorld, kind: Any, name: str) -> None:
    status, sentence = FOR_EVER[kind]
    error = world.fail(Fault(kind, times=None, match=QUESTIONS[name]))
    assert 'of account "acme"' in error, (kind, name)
    first, _, rest = sentence.partition("{}")
    assert first in error, (kind, name)
    assert rest in error, (kind, name)
    assert world.status() == status, (kind, name)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_fault_that_stays_is_a_sentence_and_changes_nothing(world: PortWorld, part: int) -> None:
    """Each kind at two questions, each question with some kinds."""
    for number, kind in list(enumerate(KINDS))[part::4]:
        for step in (0, 5):
            assert_fails(world, kind, list(QUESTIONS)[(number + step) % len(QUESTIONS)])
    world.later(minutes=5).succeed()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_that_stays_at_any_question_changes_nothing(world: PortWorld, kind: str) -> None:
    for name in QUESTIONS:
        assert_fails(world, kind, name)
    world.later(minutes=5).succeed()


@pytest.mark.slow
def test_a_key_that_is_revoked_at_any_moment_is_invalid_and_changes_nothing(world: PortWorld) -> None:
    for name in ("key", "workspaces", "keys", "analytics", "analytics of keys", "activity of a key"):
        error = world.fail(Fault("401", times=None, match=QUESTIONS[name]))
        end = world.ledger.accounts["acme"].management_key[-4:]
        assert error == (
            f'Invalid API key: OpenRouter refused the key of account "acme" (401, sk-or-v1-…{end}).\n'
            "It may be mistyped or revoked. Put a valid one in OPENROUTER_API_KEY_ACME "
            "(openrouter.ai/settings/management-keys), then: orcost sync\n"
            "Costs stay as of 2026-11-23 12:20 UTC; nothing was lost."
        )
        assert world.status() == "invalid_key", name
    world.later(minutes=5).succeed()


@pytest.mark.slow
def test_a_key_that_is_revoked_for_a_moment_is_not_asked_with_again(world: PortWorld) -> None:
    """Unlike a busy server, a refused key does not get better by asking."""
    world.fail(Fault("401", times=1, match=QUESTIONS["workspaces"]))
    assert len(world.simulator.asked("/workspaces")) == 1
    world.succeed()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_an_answer_that_takes_for_ever_for_ever_ends_the_sync_soon(world: PortWorld, kind: Any) -> None:
    world.timeout = SHORT
    for name in ("key", "activity of a key"):
        started = time.monotonic()
        error = world.fail(Fault(kind, times=None, match=QUESTIONS[name], seconds=3 * SHORT))
        assert f"did not answer within {SHORT:g} s. {DOWN}" in error
        assert world.status() == "unreachable"
        assert SHORT <= time.monotonic() - started < SHORT + 5
        assert name != "key" or world.simulator.count == 1
    world.timeout = AMPLE
    world.succeed()


@pytest.mark.slow
def test_a_server_that_is_not_there_changes_nothing(world: PortWorld) -> None:
    there, world.base_url = world.base_url, f"http://127.0.0.1:{closed_port()}/api/v1"
    error = world.fail()
    assert f"could not be reached (connection refused). {DOWN}" in error
    assert world.status() == "unreachable"
    world.base_url = there
    world.succeed()


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_changes_nothing(world: PortWorld) -> None:
    """Its port closes for good while usage is read."""
    world.transport = Detour(closed_port(), times=0)

    def dies(request: httpx.Request) -> bool:
        if QUESTIONS["analytics of keys"](request):
            world.transport.times = 1_000_000  # type: ignore[union-attr]
            return True
        return False

    error = world.fail(Fault("reset", times=None, match=dies))
    assert DOWN in error
    world.transport = None
    world.succeed()


@pytest.mark.slow
def test_a_server_that_asks_for_an_hour_for_ever_ends_the_sync_soon(world: PortWorld) -> None:
    for name in ("workspaces", "analytics"):
        error = world.fail(Fault("429", times=None, retry_after=3600, match=QUESTIONS[name]))
        assert "OpenRouter's rate limit is reached; the next sync catches up." in error
        assert world.status() == "unreachable"
        assert len([one for one in world.simulator.requests if one.path in ("/workspaces", "/analytics/query")]) < 9
    world.succeed()


@pytest.mark.slow
def test_workspaces_that_fail_alone_take_no_workspace_away(world: PortWorld) -> None:
    error = world.fail(Fault("workspaces_500", times=None))
    assert 'GET /workspaces of account "acme" answered 500 (Internal Server Error).' in error
    world.succeed(Fault("workspaces_500", times=4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["analytics", "analytics of keys"])
def test_answers_that_are_truncated_for_ever_are_not_taken(world: PortWorld, name: str) -> None:
    error = world.fail(Fault("truncated_flag", times=None, match=QUESTIONS[name]))
    assert 'POST /analytics/query of account "acme" has more than ' in error
    assert " rows for one hour (" in error
    assert "and cannot be split further; nothing was published." in error
    assert world.status() == "failed"
    world.succeed()


@pytest.mark.slow
def test_a_first_sync_that_fails_leaves_nothing_and_the_next_is_whole(fresh: PortWorld) -> None:
    for name in ("keys", "activity of a key"):
        fresh.fail(Fault("500", times=None, match=QUESTIONS[name]))
        assert fresh.value("select count(*) from core.spend_hourly") == 0
        assert fresh.rows("select as_of from ref.account") == [(None,)]
    fresh.succeed()


@pytest.mark.slow
def test_what_was_asked_is_counted_although_the_sync_failed(world: PortWorld) -> None:
    world.fail(Fault("503", times=None, match=QUESTIONS["analytics"]))
    (made,) = world.run("requests_made")
    # Of what is under way when a question fails, some may not have reached the server.
    assert world.simulator.count <= made <= world.simulator.count + 2
    assert len(world.simulator.asked("/analytics")) > 1


# ── any mix ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MIXED = [*KINDS, "401", "truncated_flag", "refused", "workspaces_500"]


def schedule(dice: random.Random) -> list[Fault]:
    """A few faults of any kind, at any questions, from any moment on, for any time."""
    return [
        Fault(
            dice.choice(MIXED),  # type: ignore[arg-type]
            times=dice.choice([1, 2, 3, 6, None, None]),
            match=dice.choice([*QUESTIONS.values(), "", lambda request: zlib.crc32(request.url.raw_path) % 3 == 0]),
            skip=dice.choice([0, 0, 1, 2, 7]),
            retry_after=dice.choice([None, None, 0]),
        )
        for _ in range(dice.randint(1, 3))
    ]


def assert_never_silently_wrong(world: PortWorld, seed: str, syncs: int) -> tuple[int, int]:
    """Each sync under a random schedule says what is wrong and changes nothing, or is exact; returns how many did."""
    dice, outcomes = random.Random(seed), {True: 0, False: 0}
    for number in range(syncs):
        world.later(hours=dice.choice([1, 1, 5, 24]))
        living = [key.hash for key in world.ledger.accounts["acme"].living_keys(world.now)]
        spend(world.ledger, world.now, dice.sample(living, min(2, len(living))), number)
        before, faults = world.figures(), schedule(dice)
        world.simulator.inject(*faults)
        world.patience = IMPATIENT
        error = world.attempt()
        world.patience = PATIENT
        world.simulator.clear_faults()
        if error is None:
            world.assert_exact()
        else:
            world.assert_said(error)
            assert world.figures() == before, (seed, number, faults)
        outcomes[error is None] += 1
    world.later(minutes=5).succeed()
    return outcomes[True], outcomes[False]


@pytest.mark.slow
def test_no_mix_of_faults_is_silently_wrong(world: PortWorld) -> None:
    assert all(assert_never_silently_wrong(world, "seed", 6))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_mix_of_faults_is_ever_silently_wrong(world: PortWorld, seed: int) -> None:
    succeeded, failed = assert_never_silently_wrong(world, str(seed), 30)
    assert succeeded > 3
    assert failed > 3


# ── through production ───────────────────────────────────────────────────────────────────────────────────────────────


Run = Callable[[dg.DagsterInstance], dg.ExecuteInProcessResult]


def failures(run: dg.ExecuteInProcessResult) -> list[str]:
    """What each step that failed says."""
    return [
        event.step_failure_data.user_failure_data.description or ""
        for event in run.all_events
        if event.event_type == dg.DagsterEventType.STEP_FAILURE and event.step_failure_data.user_failure_data
    ]


@pytest.fixture
def run(world: PortWorld, database_url: str, tmp_path: Path) -> Run:
    """A sync by the hour's job."""
    world.patience = PATIENCE
    settings = Settings(
        folder=tmp_path,
        home=tmp_path,
        mapping=Source("mapping", tmp_path / "company_mapping.csv"),
        config_file=tmp_path / "orcost.toml",
        database_url=SecretStr(database_url),
        accounts=(world.configured.model_copy(update={"base_url": world.base_url}),),
    )
    lines = ["company,match,pattern,valid_from,valid_to,share", *MAPPING]
    settings.mapping.path.write_text("\n".join(lines), encoding="utf-8")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

    def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        job = build_defs(settings, surroundings=Surroundings(lambda: world.now, world.connect)).resolve_job_def(
            "hourly_sync"
        )
        return job.execute_in_process(instance=instance, partition_key="acme", raise_on_error=False, run_config=quiet)

    return run


@pytest.mark.slow
def test_a_server_that_dies_after_the_first_step_is_waited_for_once(world: PortWorld, run: Run) -> None:
    is_later = lambda request: not request.url.path.endswith(("/key", "/credits"))  # noqa: E731
    world.simulator.inject(Fault("503", times=None, match=is_later))
    world.simulator.forget_requests()
    with dg.DagsterInstance.ephemeral() as instance:
        first, *others = failures(run(instance))
    assert "answered 503" in first
    assert others == ["Nothing is asked: an earlier step of this sync has failed."] * len(others)
    assert others
    asked = {it.path for it in world.simulator.requests if it.path not in ("/key", "/credits")}
    assert len(asked) == 1
    assert "answered 503" in world.rows("select error from ops.sync_run order by started_at desc limit 1")[0][0]


@pytest.mark.slow
def test_a_run_of_dagster_fails_with_the_sentence_and_the_next_is_exact(world: PortWorld, run: Run) -> None:
    before = world.figures()
    world.simulator.inject(Fault("html_200", times=None, match=QUESTIONS["activity"]))
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(instance)
        assert not failed.success
        assert FOR_EVER["html_200"][1] in failures(failed)[0]
        assert (world.status(), world.figures()) == ("failed", before)
        world.simulator.clear_faults()
        world.simulator.inject(*(Fault("503", match=asks) for asks in QUESTIONS.values()))
        world.later(minutes=5)
        assert run(instance).success
    world.assert_exact()


@pytest.mark.slow
def test_the_command_line_says_in_three_lines_what_is_wrong(database_url: str, tmp_path: Path) -> None:
    """By the wall clock and by environment alone, as an operator runs it."""
    simulator = Simulator(small(datetime.now(UTC)), options=Options())
    key = simulator.ledger.accounts["acme"].management_key
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')

    def sync(base_url: str) -> Outcome:
        ours = {"OPENROUTER_API_KEY_ACME": key, "OPENROUTER_BASE_URL": base_url, "ORCOST_DATABASE_URL": database_url}
        return orcost(tmp_path, {**clean_environment(), **ours}, "sync")

    with serve(simulator) as base_url:
        simulator.inject(Fault("500", times=3), Fault("reset", match="/analytics"), Fault("cut_body", match="/keys"))
        well = sync(base_url)
        assert (well.returncode, "Traceback" in well.stderr) == (0, False), well.stderr
        simulator.inject(Fault("401", times=None, match="/analytics"))
        badly = sync(base_url)
    assert badly.returncode == 1
    sentence = f'Invalid API key: OpenRouter refused the key of account "acme" (401, sk-or-v1-…{key[-4:]}).'
    told = badly.stderr.splitlines()
    first = told.index(sentence)
    assert told[first + 1].startswith(
        "It may be mistyped or revoked. Put a valid one in OPENROUTER_API_KEY_ACME (openrouter"
    )
    assert told[first + 2].startswith("Costs stay as of ")
    assert "Traceback" not in badly.stderr
    assert key[-12:] not in badly.stderr + badly.stdout

"""One odd row never stops an account: what can be read as meant is read, what cannot is left out by itself, counted and
named with endpoint and field; money is never guessed, and the day says why it is not closed.
"""

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orcost_pipeline.errors import ContractError
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.health.standing import read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.project_file import AlertsConfig, Source
from orcost_pipeline.settings import Settings
from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.simulator.faults import BASE_PATH
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

TODAY = NOON.date()
YESTERDAY = TODAY - DAY
UNREADABLE = "a row that could not be read"
# Replaced in the JSON text: Python's own encoder writes none of them.
LITERALS = ("1e200000", "1e3000000", "1e-200000", "NaN", "Infinity", "9" * 1_000_000)

Spoil = Callable[[httpx.Request, Any], None]


def literal(text: str) -> str:
    """A JSON literal, marked."""
    return f"literal {LITERALS.index(text)}"


@pytest.fixture
def world(engine: sa.Engine) -> World:
    """Keys `app` and `web`, each with a dollar and a half a day, and a member."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    ada = ledger.add_member("acme", "ada@acme.example")
    for name in ("app", "web"):
        key = ledger.add_key("acme", name, NOON - 40 * DAY, creator_user_id=ada, limit=Decimal(100))
        for days in range(5):
            ledger.spend("acme", NOON - days * DAY - 2 * HOUR, key, GPT, usage("1"))
            ledger.spend("acme", NOON - days * DAY - 2 * HOUR, key, CLAUDE, usage("0.5", "0.25"))
    return World(engine, ledger)


def spoil(world: World, path: str, odd: Spoil) -> None:
    """From here on, what is at `path` answers what `odd` makes of it."""
    plain = world.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        response = plain(request)
        if request.url.path != BASE_PATH + path or response.status_code != 200:
            return response
        body = json.loads(response.text, parse_float=Decimal)
        odd(request, body)
        text = json.dumps(body, default=lambda value: f"number {value}")
        for number, told in enumerate(LITERALS):
            text = text.replace(f'"literal {number}"', told)
        return httpx.Response(200, content=_unmarked(text))

    world.simulator.handle = handle  # type: ignore[method-assign]


def _unmarked(text: str) -> str:
    """Amounts as the numbers that they were."""
    parts = text.split('"number ')
    return parts[0] + "".join(part.replace('"', "", 1) for part in parts[1:])


def mend(world: World) -> None:
    del world.simulator.handle


def rows_of(body: Any) -> Any:
    return body["data"]["data"] if isinstance(body["data"], dict) else body["data"]


def first_row(field: str, value: Any, **where: Any) -> Spoil:
    """Puts a value into the first row in which those fields are so."""

    def odd(_: httpx.Request, body: Any) -> None:
        found = [row for row in rows_of(body) if all(row[name] == wanted for name, wanted in where.items())]
        if found:
            found[0][field] = value

    return odd


def noted(world: World) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in world.rows("select endpoint, field, day, rows from ops.unreadable_row order by 1, 2, 3 nulls first")
    ]


def status(world: World, day: date) -> tuple[Any, ...]:
    return tuple(world.rows("select status, cause from marts.reconciliation_daily where day = :day", day=day)[0])


def found(world: World) -> list[Finding]:
    settings = Settings.model_construct(
        accounts=[world.configured],
        mapping=Source("mapping", Path("company_mapping.csv")),
        alerts=AlertsConfig(unattributed_percent=Decimal(100)),
    )
    with world.engine.connect() as connection:
        stored = read(connection, settings, world.now)
        return list(stored_findings(stored, settings, world.now))


def finding(world: World) -> Finding:
    (it,) = [it for it in found(world) if it.code is Code.UNREADABLE_ROWS]
    return it


# ── keys and what else is listed ─────────────────────────────────────────────────────────────────────────────────────

# Of each field, one odd value after the other; a key has all of a column at once.
KEY_FIELDS: dict[str, list[Any]] = {
    "name": [None, {"a": 1}, ["x"], literal("1e200000"), "x" * 5_000],
    "label": [None, {}, 12, literal("NaN"), "\0"],
    "limit": [literal("Infinity"), literal("NaN"), "Infinity", literal("1e200000"), literal("9" * 1_000_000)],
    "limit_remaining": [literal("NaN"), {}, "-Infinity", literal("1e-200000"), "1e15"],
    "limit_reset": [None, {}, 1, [], "x" * 5_000],
    "usage": ["abc", {}, literal("1e3000000"), literal("NaN"), literal("9" * 1_000_000)],
    "byok_usage_monthly": [literal("1e3000000"), [], True, "", literal("Infinity")],
    "created_at": ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00Z", "not a date", {}, literal("1e3000000")],
    "expires_at": ["9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "0001", [], literal("1e3000000")],
    "last_used_at": ["9999-12-31T23:59:59Z", "not a date", [], "10000-01-01", literal("9" * 1_000_000)],
    "disabled": ["perhaps", {}, None, 7, literal("NaN")],
    "workspace_id": [{}, 12, None, [], "\ud83d"],
    "creator_user_id": [{}, "x" * 5_000, 5, None, "\0"],
    "a_field_of_tomorrow": ["\0", literal("1e200000"), literal("NaN"), literal("9" * 1_000_000), {"\0": "\ud83d"}],
}


@pytest.mark.parametrize(
    "odd", sampled([dict(zip(KEY_FIELDS, column, strict=True)) for column in zip(*KEY_FIELDS.values(), strict=True)], 1)
)
def test_odd_fields_of_a_key_cost_nobody_a_cent(world: World, odd: dict[str, Any]) -> None:
    """Found on the first sync, and on one that knows the key."""
    app = next(iter(world.ledger.accounts["acme"].keys))
    spoil(world, "/keys", lambda _, body: [row.update(odd) for row in body["data"] if row["hash"] == app])
    for _ in range(2):
        world.sync()
        world.assert_hours_are_true()
        world.assert_days_are_true()
        world.assert_books_close()
        assert world.value("select count(*) from ref.api_key where deleted_at is null") == 2
        world.later(hours=1)
    assert status(world, YESTERDAY) == ("closed", None)


def test_what_a_key_had_stays_where_it_cannot_be_read_and_is_made_good(world: World) -> None:
    world.sync()
    known = world.rows(
        "select name, label, usage_usd, workspace_id, is_disabled, last_used_at from ref.api_key order by 1"
    )
    fields = ("name", "label", "usage", "byok_usage", "workspace_id", "disabled", "last_used_at")
    for field in fields:
        spoil(
            world, "/keys", first_row(field, {"odd": field}, hash=world.value("select max(key_hash) from ref.api_key"))
        )
    world.later(hours=1).sync()
    assert known == world.rows(
        "select name, label, usage_usd, workspace_id, is_disabled, last_used_at from ref.api_key order by 1"
    )
    assert noted(world) == [("GET /keys", field, None, 1) for field in sorted(fields)]
    assert world.value("select count(*) from ref.api_key_history") == 2
    told = finding(world)
    assert (told.severity, told.account, told.since) == (Severity.WARNING, "acme", world.now)
    assert "GET /keys: byok_usage, disabled, label, last_used_at, name, usage, workspace_id" in told.message
    mend(world)
    world.later(hours=1).sync()
    assert noted(world) == []


def test_a_hash_in_upper_case_is_the_same_key(world: World) -> None:
    world.sync()
    spoil(world, "/keys", lambda _, body: [row.update(hash=row["hash"].upper()) for row in body["data"]])
    assert "core.api_key" not in world.later(minutes=1).sync()
    assert noted(world) == []


def test_a_key_whose_hash_cannot_be_read_is_not_gone(world: World) -> None:
    world.sync()
    spoil(world, "/keys", lambda _, body: [row.update(hash="?") for row in body["data"]])
    for path in world.ledger.accounts["acme"].keys:
        spoil(world, f"/keys/{path}", lambda _, body: body.update(data=[]))
    world.later(hours=1).sync()
    assert world.rows("select name, deleted_at from ref.api_key order by 1") == [("app", None), ("web", None)]
    assert {field for endpoint, field, *_ in noted(world) if endpoint == "GET /keys"} == {"hash"}
    world.assert_hours_are_true()


@pytest.mark.parametrize(
    ("path", "odd"),
    [("/workspaces", None), ("/workspaces", {"id": {}}), ("/organization/members", {}), ("/models", "x")],
)
def test_an_odd_workspace_member_or_model_stops_nothing(world: World, path: str, odd: Any) -> None:
    def with_odd_row(_: httpx.Request, body: Any) -> None:
        body["data"].append(odd)
        body["total_count"] += 1

    spoil(world, path, with_odd_row)
    world.sync()
    world.assert_hours_are_true()
    world.assert_days_are_true()
    assert world.value("select count(*) from ref.api_key where creator_email = 'ada@acme.example'") == 2
    assert {endpoint for endpoint, *_ in noted(world)} == {f"GET {path}"}


def test_names_that_cannot_be_read_stay_as_they_were(world: World) -> None:
    world.sync()
    spoil(world, "/workspaces", first_row("name", {}))
    spoil(world, "/organization/members", first_row("email", []))
    world.later(hours=1).sync()
    assert world.rows("select distinct workspace_name, creator_email from ref.api_key") == [
        ("Default", "ada@acme.example")
    ]
    assert world.value("select count(*) from ref.api_key_history") == 2
    assert {field for _, field, *_ in noted(world)} == {"name", "email"}


@pytest.mark.parametrize("odd", [None, literal("1e200000")])
def test_credits_that_cannot_be_read_are_an_unknown_balance(world: World, odd: Any) -> None:
    spoil(world, "/credits", lambda _, body: body["data"].update(total_usage=odd))
    world.sync()
    assert world.rows("select credits_total_usd, credits_used_usd from ref.account") == [(500, None)]
    assert noted(world) == [("GET /credits", "total_usage", None, 1)]
    assert not {Code.NO_CREDITS, Code.CREDITS_LOW} & {it.code for it in found(world)}


def test_a_key_of_which_nobody_can_say_what_it_may_breaks_the_contract(world: World) -> None:
    spoil(world, "/key", lambda _, body: body["data"].update(is_management_key="perhaps"))
    with pytest.raises(ContractError, match=r"GET /key of account .acme. .*: is_management_key"):
        world.sync()


def test_other_unreadable_fields_of_the_key_are_noted_and_do_not_stop_the_sync(world: World) -> None:
    odd = {"label": {}, "usage": "x", "usage_daily": literal("1e3000000"), "byok_usage": []}
    spoil(world, "/key", lambda _, body: body["data"].update(odd))
    world.sync()
    assert noted(world) == [("GET /key", field, None, 1) for field in sorted(odd)]
    world.assert_hours_are_true()


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_the_account(request: httpx.Request) -> bool:
    return "api_key_hash" not in request.url.params and b"filters" not in request.content


def on(day: date, field: str, value: Any, whose: Callable[[httpx.Request], bool] = lambda _: True) -> Spoil:
    """Puts a value into the first row of a day."""

    def odd(request: httpx.Request, body: Any) -> None:
        rows = [row for row in rows_of(body) if str(row.get("date__hour", row.get("date")))[:10] == f"{day}"]
        if rows and whose(request):
            rows[0][field] = value

    return odd


LABELS = [
    ("/activity", "provider_name", None),
    ("/activity", "endpoint_id", []),
    ("/activity", "a_field_of_tomorrow", literal("1e200000")),
    ("/analytics/query", "total_usage", literal("NaN")),
]


@pytest.mark.parametrize(("path", "field", "value"), sampled(LABELS, 1))
def test_an_odd_label_of_usage_costs_nobody_a_cent(world: World, path: str, field: str, value: Any) -> None:
    spoil(world, path, on(YESTERDAY, field, value))
    world.sync()
    world.assert_hours_are_true()
    world.assert_days_are_true()
    assert status(world, YESTERDAY) == ("closed", None)


@pytest.mark.parametrize(
    ("path", "field", "value"),
    sampled(
        [
            ("/activity", "model_permaslug", None),
            ("/activity", "model_permaslug", "x" * 5_000),
            ("/analytics/query", "model", {}),
            ("/analytics/query", "api_key_id", {}),
        ],
        1,
    ),
)
def test_usage_of_a_model_that_cannot_be_read_is_of_an_unknown_one(
    world: World, path: str, field: str, value: Any
) -> None:
    spoil(world, path, on(YESTERDAY, field, value))
    world.sync()
    told = world.rows("select sum(credits_usd), sum(byok_usd) from core.usage_daily where day = :day", day=YESTERDAY)
    assert told == [(3, Decimal("0.5"))]
    world.assert_books_close()


@pytest.mark.parametrize(
    ("path", "field", "value"),
    sampled(
        [
            ("/activity", "usage", literal("1e200000")),
            ("/activity", "usage", {}),
            ("/activity", "byok_usage_inference", literal("NaN")),
            ("/analytics/query", "credits_usage", literal("9" * 1_000_000)),
            ("/analytics/query", "credits_usage", "abc"),
            ("/analytics/query", "byok_usage", literal("1e3000000")),
        ],
        2,
    ),
)
def test_money_that_cannot_be_read_is_left_out_and_its_day_says_so(
    world: World, path: str, field: str, value: Any
) -> None:
    spoil(world, path, on(YESTERDAY, field, value))
    world.sync()
    world.assert_books_close()
    assert status(world, YESTERDAY) == ("open", UNREADABLE)
    assert status(world, YESTERDAY - DAY) == ("closed", None)
    method = "POST" if "analytics" in path else "GET"
    assert {(endpoint, name, day) for endpoint, name, day, _ in noted(world)} == {
        (f"{method} {path}", field, YESTERDAY)
    }
    assert f"{method} {path}: {field} (" in finding(world).message
    assert f"{YESTERDAY}" in finding(world).message


@pytest.mark.parametrize("path", sampled(["/activity", "/analytics/query"], 1))
def test_a_count_that_cannot_be_read_is_left_out_by_itself(world: World, path: str) -> None:
    field = "prompt_tokens" if path == "/activity" else "tokens_prompt"
    spoil(world, path, on(YESTERDAY, field, literal("1e3000000")))
    world.sync()
    told = world.rows("select sum(credits_usd), sum(byok_usd) from core.usage_daily where day = :day", day=YESTERDAY)
    assert told == [(3, Decimal("0.5"))]
    assert status(world, YESTERDAY) == ("open", UNREADABLE)


@pytest.mark.parametrize(
    ("path", "field", "value"),
    sampled(
        [
            ("/activity", "date", "9999-12-31"),
            ("/activity", "date", {}),
            ("/analytics/query", "date__hour", "0001-01-01"),
            ("/analytics/query", "date__hour", literal("1e3000000")),
        ],
        1,
    ),
)
def test_usage_of_which_nobody_can_say_when_it_was_is_noted_without_a_day(
    world: World, path: str, field: str, value: Any
) -> None:
    spoil(world, path, on(YESTERDAY, field, value))
    world.sync()
    world.assert_books_close()
    assert {(name, day) for _, name, day, _ in noted(world)} == {(field, None)}


@pytest.mark.slow
def test_a_row_of_one_key_is_named_with_its_key_and_stays_noted_until_that_key_is_asked_again(world: World) -> None:
    """A sync in which that key does not move does not ask it, and says nothing of what it lacks."""
    keys = {key[0][1].name: key_hash for key_hash, key in world.ledger.accounts["acme"].keys.items()}
    hour = f"{NOON - DAY - 2 * HOUR:%Y-%m-%d %H}"

    def odd(request: httpx.Request, body: Any) -> None:
        for row in rows_of(body):
            if not of_the_account(request) and row["api_key_id"] == "app" and row["date__hour"].startswith(hour):
                row["credits_usage"] = "?"

    spoil(world, "/analytics/query", odd)
    world.sync()
    note = [("POST /analytics/query", "credits_usage", keys["app"], YESTERDAY, 2)]
    told = "select endpoint, field, key_hash, day, rows from ops.unreadable_row"
    assert world.rows(told) == note
    assert status(world, YESTERDAY) == ("open", UNREADABLE)
    world.ledger.spend("acme", NOON - HOUR / 2, keys["web"], GPT, usage("1"))
    world.later(hours=1).sync()
    assert world.rows(told) == note
    mend(world)
    world.later(hours=1).sync(since=YESTERDAY)
    assert world.rows(told) == []
    assert status(world, YESTERDAY) == ("closed", None)
    world.assert_hours_are_true()
    world.assert_days_are_true()


@pytest.mark.slow
def test_a_day_that_was_not_closed_is_made_good_by_the_next_sync_and_a_rerun_writes_nothing(world: World) -> None:
    for path, field in (("/activity", "usage"), ("/analytics/query", "byok_usage")):
        spoil(world, path, on(YESTERDAY, field, {}))
    world.sync()
    assert status(world, YESTERDAY) == ("open", UNREADABLE)
    assert "core.unreadable_row" not in world.later(minutes=1).sync()
    mend(world)
    world.later(hours=1).sync()
    world.assert_hours_are_true()
    world.assert_days_are_true()
    assert status(world, YESTERDAY) == ("closed", None)
    assert noted(world) == []


def test_an_answer_of_which_nothing_can_be_read_replaces_nothing(world: World) -> None:
    """Ten rows without an amount are no oddity: the API has changed."""
    world.sync()
    stored = world.rows("select * from core.usage_hourly order by 1, 2, 3, 4")
    spoil(world, "/analytics/query", lambda _, body: [row.update(credits_usage={}) for row in rows_of(body)])
    with pytest.raises(ContractError, match="none of which can be read: credits_usage"):
        world.later(hours=1).sync()
    assert world.rows("select * from core.usage_hourly order by 1, 2, 3, 4") == stored


@pytest.mark.slow
def test_an_open_day_says_that_it_lacks_a_row_rather_than_that_witnesses_disagree(world: World) -> None:
    spoil(world, "/activity", on(YESTERDAY, "usage", {}))
    world.sync()
    (it,) = [it for it in found(world) if it.code is Code.DAYS_OPEN]
    assert it.message == f"A row of {YESTERDAY} could not be read."
    assert it.todo.startswith(f"orcost sync --account acme --since {YESTERDAY}; ")


# ── an ordinary key ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_counter_that_cannot_be_read_books_nothing_and_the_next_one_all_of_it(world: World) -> None:
    """Money is not guessed: neither 0 nor what was known would be right."""
    world.simulator.options = Options(analytics_status=404)
    world.sync()
    total = "select sum(credits_usd) from core.usage_hourly"
    before = world.value(total)
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.spend("acme", NOON + HOUR / 2, app, GPT, usage("7"))
    spoil(world, "/keys", first_row("usage", literal("1e200000"), name="app"))
    world.later(hours=1).sync()
    assert world.value(total) == before
    mend(world)
    world.later(hours=1).sync()
    assert world.value(total) == before + 7


def test_a_key_made_in_the_far_future_books_what_it_used(world: World) -> None:
    world.simulator.options = Options(analytics_status=404)
    world.sync()
    total = world.value("select sum(credits_usd) from core.usage_hourly")
    spoil(world, "/keys", first_row("created_at", "2150-01-01T00:00:00Z", name="app"))
    world.later(hours=1).sync()
    assert world.value("select sum(credits_usd) from core.usage_hourly") == total


# ── cached tokens ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_more_cached_tokens_than_prompt_tokens_are_what_they_are(world: World) -> None:
    """Replayed cache hits."""
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.spend("acme", NOON - DAY, app, GPT, usage("1").__class__(1, 10, 5, 0, 900, Decimal(1), Decimal(0)))
    world.sync()
    world.assert_hours_are_true()
    world.assert_days_are_true()
    world.assert_books_close()
    assert status(world, YESTERDAY) == ("closed", None)

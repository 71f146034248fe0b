"""Ready-made histories: a demo account, a large one for benchmarks, a small one to read.

Belongs here: who exists and how they spend. Everything is drawn from the seed and the absolute UTC day, never from
`now`, so a restarted demo tells the same past; events lie ahead of `now` too, and answers show what has happened.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orcost_pipeline.simulator.catalogue import (
    CLAUDE,
    DEEPSEEK,
    GEMINI,
    GPT,
    GPT_MINI,
    LLAMA_FREE,
    MISTRAL,
    MODELS,
    Model,
)
from orcost_pipeline.simulator.facts import floor_hour
from orcost_pipeline.simulator.ledger import Ledger, Usage

DAY = timedelta(days=1)
HISTORY_DAYS = 60
DAYS_AHEAD = 35
ROTATION_DAYS = 21
MADE_AT = datetime(2025, 3, 3, 9, 0, tzinfo=UTC)
ROTATION_EPOCH = datetime(2025, 3, 3, 10, 0, tzinfo=UTC)
# Money is drawn in whole units of 1e-10 USD: a cached token costs a tenth of a price with 9 decimals at most.
UNIT = -10
PRICES = {model.permaslug: (int(model.prompt_usd.scaleb(10)), int(model.completion_usd.scaleb(10))) for model in MODELS}
OFFICE_HOURS = tuple(0.05 if hour < 6 else 0.5 if hour < 8 else 1.0 if hour < 18 else 0.3 for hour in range(24))
ROUND_THE_CLOCK = tuple(0.6 if hour < 6 else 1.0 for hour in range(24))
LATE_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Habit:
    """How a key spends: expected events per busy hour, tokens per event, models with weights, shape of day and week."""

    events: float
    prompt_tokens: int
    models: tuple[tuple[str, int], ...]
    hours: tuple[float, ...] = OFFICE_HOURS
    weekend: float = 0.15
    is_byok: bool = False


GATEWAY = ((GPT, 3), (CLAUDE, 3), (GEMINI, 3), (GPT_MINI, 2), (DEEPSEEK, 1))
KEYS: tuple[tuple[str, str, Habit | None], ...] = (
    ("Company A Production", "", Habit(2.4, 240_000, ((GPT, 5), (GPT_MINI, 4)), ROUND_THE_CLOCK, 0.6)),
    ("Company A Staging", "", Habit(0.7, 120_000, ((GPT, 1), (GPT_MINI, 3)))),
    ("Company A Batch", "", Habit(0.5, 240_000, ((MISTRAL, 1),), ROUND_THE_CLOCK, 1.0, is_byok=True)),
    ("Company A Old importer", "", None),
    ("Company B Chatbot", "Company B", Habit(1.8, 110_000, ((CLAUDE, 3), (GEMINI, 2)), ROUND_THE_CLOCK, 0.8)),
    ("Company B Chatbot", "Company B", Habit(0.7, 70_000, ((CLAUDE, 1), (GEMINI, 3)), ROUND_THE_CLOCK, 0.8)),
    ("Company B Search", "Company B", Habit(1.8, 260_000, ((GEMINI, 3), (DEEPSEEK, 2)))),
    ("Company B Reserve", "Company B", None),
    ("Company C Website", "", Habit(0.9, 190_000, ((GPT_MINI, 2), (CLAUDE, 1)), ROUND_THE_CLOCK, 0.7)),
    ("Company C Hackathon", "", None),
    ("Shared gateway", "", Habit(2.0, 190_000, GATEWAY, ROUND_THE_CLOCK, 0.5)),
    ("Internal tools", "Internal", Habit(0.8, 80_000, ((CLAUDE, 2), (GPT_MINI, 1)))),
    ("Internal evaluation", "Internal", Habit(0.9, 40_000, ((LLAMA_FREE, 4), (DEEPSEEK, 1)))),
    ("company-b-playground", "", Habit(0.3, 60_000, ((CLAUDE, 1), (GPT, 1)), weekend=0.0)),
)
PILOT = Habit(0.7, 110_000, ((GPT, 1), (GEMINI, 2)))
CHAT = Habit(0.3, 30_000, ((CLAUDE, 2), (GPT, 1)), weekend=0.0)


def demo(now: datetime, seed: int = 7) -> Ledger:
    """One agency account, `demo`: three companies, a shared gateway, some 2,000 USD a month.

    History begins on 1 January of the year of 60 days before `now`, and goes on for 35 days after it. The pilot key of
    Company C is rotated every 21 days: a key of the same name is made, the old one deleted an hour later.
    """
    ledger = Ledger()
    account = ledger.add_account("demo", credits_bought=Decimal(60_000)).name
    workspaces = {"": None} | {name: ledger.add_workspace(account, name) for name in ("Company B", "Internal")}
    members = [
        ledger.add_member(account, "ada@agency.example", "Ada", "Admin", role="org:admin"),
        ledger.add_member(account, "ben@agency.example", "Ben", "Builder"),
        ledger.add_member(account, "cleo@agency.example", "Cleo", "Consultant"),
    ]
    start = (now - HISTORY_DAYS * DAY).replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    end = floor_hour(now).replace(hour=0) + DAYS_AHEAD * DAY
    for number, (name, workspace, habit) in enumerate(KEYS):
        creator = members[number % 3]
        made_at = MADE_AT + timedelta(minutes=number)
        key_hash = ledger.add_key(account, name, made_at, workspace_id=workspaces[workspace], creator_user_id=creator)
        if habit is not None:
            _live(ledger, account, key_hash, habit, start, end, f"{seed}/{number}")
    _finish(ledger, account)
    _rotate_pilot(ledger, account, members[2], start, end, seed)
    _live(ledger, account, None, CHAT, start, end, f"{seed}/chat")
    return ledger


def _finish(ledger: Ledger, account: str) -> None:
    """One key is disabled, one expired, one has a monthly limit."""
    by_name = {versions[0][1].name: key_hash for key_hash, versions in ledger.accounts[account].keys.items()}
    ledger.disable(account, by_name["Company A Old importer"], MADE_AT + 90 * DAY)
    ledger.expire(account, by_name["Company C Hackathon"], MADE_AT + 30 * DAY)
    limits = {"limit": Decimal(1500), "limit_reset": "monthly"}
    ledger.change(account, by_name["Shared gateway"], MADE_AT + DAY, **limits)


def _rotate_pilot(ledger: Ledger, account: str, creator: str, start: datetime, end: datetime, seed: int) -> None:
    number = max(0, (start - ROTATION_EPOCH) // (ROTATION_DAYS * DAY))
    made_at = ROTATION_EPOCH + number * ROTATION_DAYS * DAY
    while made_at < end:
        next_at = made_at + ROTATION_DAYS * DAY
        secret = f"sk-or-v1-{random.Random(f'{seed}/pilot/{number}').getrandbits(256):064x}"  # noqa: S311
        key_hash = ledger.add_key(account, "Company C Pilot", made_at, creator_user_id=creator, secret=secret)
        _live(ledger, account, key_hash, PILOT, max(start, made_at), min(end, next_at), f"{seed}/pilot")
        ledger.delete(account, key_hash, next_at + timedelta(hours=1))
        number, made_at = number + 1, next_at


def _live(
    ledger: Ledger, account: str, key_hash: str | None, habit: Habit, start: datetime, end: datetime, seed: str
) -> None:
    """Spends by habit in [start, end); each UTC day is drawn whole, by its own dice."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while midnight < end:
        dice = random.Random(f"{seed}/{midnight:%Y-%m-%d}")  # noqa: S311 (repeatable on purpose)
        for at, model, usage, lag in _day(dice, habit, midnight):
            if start <= at < end:
                ledger.spend(account, at, key_hash, model, usage, visible_from=at + lag)
        midnight += DAY


def _day(dice: random.Random, habit: Habit, midnight: datetime) -> Iterator[tuple[datetime, str, Usage, timedelta]]:
    """A day's events with instant, model, usage and how late they show."""
    share = habit.weekend if midnight.weekday() >= 5 else 1.0
    models, weights = zip(*habit.models, strict=True)
    for hour, shape in enumerate(habit.hours):
        expected = habit.events * shape * share
        for _ in range(int(expected) + (dice.random() < expected % 1)):
            at = midnight + timedelta(hours=hour, seconds=dice.randrange(3600))
            model = dice.choices(models, weights)[0]
            usage = _usage(dice, habit, model)
            lag = timedelta(minutes=dice.randrange(10, 70)) if dice.random() < LATE_SHARE else timedelta(0)
            yield at, model, usage, lag


def _usage(dice: random.Random, habit: Habit, model: str) -> Usage:
    """One event of several requests; cached tokens cost a tenth, BYOK pays the provider and a fee of 5 %."""
    prompt = int(habit.prompt_tokens * dice.uniform(0.5, 1.6))
    completion = int(prompt * dice.uniform(0.06, 0.2))
    cached = int(prompt * dice.uniform(0, 0.5))
    reasoning = int(completion * dice.uniform(0, 0.4)) if model in (GEMINI, CLAUDE) else 0
    prompt_price, completion_price = PRICES[model]
    cost = (prompt - cached) * prompt_price + cached * prompt_price // 10 + completion * completion_price
    credits, byok = (cost // 20, cost) if habit.is_byok else (cost, 0)  # noqa: A001
    requests = max(1, prompt // 4_000)
    amounts = Decimal(credits).scaleb(UNIT), Decimal(byok).scaleb(UNIT)
    return Usage(requests, prompt, completion, reasoning, cached, *amounts)


def scale(
    now: datetime,
    keys: int = 1_000,
    workspaces: int = 5,
    active_keys: int = 100,
    models: int = 20,
    days: int = 31,
    seed: int = 7,
) -> Ledger:
    """An account, `scale`: every active key uses two of its three models in every hour of `days` and a day ahead.

    The active keys are spread over the workspaces. No two keys share a name.
    """
    dice = random.Random(seed)  # noqa: S311
    ledger = Ledger()
    account = ledger.add_account("scale", credits_bought=Decimal(1_000_000)).name
    places = [None, *(ledger.add_workspace(account, f"Workspace {n}") for n in range(2, workspaces + 1))]
    slugs = [f"vendor/model-{number:02d}" for number in range(1, models + 1)]
    for slug in slugs:
        ledger.add_model(Model(slug, slug, slug, "Vendor", Decimal("0.000001"), Decimal("0.000004")))
    start = floor_hour(now) - days * DAY
    hashes = [
        ledger.add_key(account, f"Key {number:04d}", start - 90 * DAY, workspace_id=places[number % workspaces])
        for number in range(1, keys + 1)
    ]
    for key_hash in hashes[:active_keys]:
        favourites = dice.sample(slugs, min(3, models))
        for hour in range((days + 1) * 24):
            for model in (favourites[hour % len(favourites)], favourites[(hour + 1) % len(favourites)]):
                at = start + timedelta(hours=hour, seconds=dice.randrange(3600))
                ledger.spend(account, at, key_hash, model, _plain_usage(dice))
    ledger.accounts[account].facts.prepare(now)
    return ledger


def _plain_usage(dice: random.Random) -> Usage:
    prompt, completion = dice.randrange(1_000, 50_000), dice.randrange(100, 5_000)
    return Usage(prompt // 1_000, prompt, completion, 0, 0, Decimal(prompt * 10 + completion * 40).scaleb(-7))


def small(now: datetime) -> Ledger:
    """An account, `acme`, to read by eye: three keys in two workspaces and the chat room, round amounts.

    Credits of the last two hours 1.75 USD, two days ago 10 USD, ten days ago 100 USD; BYOK 3 USD two days ago.
    """
    ledger = Ledger()
    account = ledger.add_account("acme", credits_bought=Decimal(500)).name
    ledger.add_member(account, "ada@acme.example", "Ada", "Admin", id="user_ada", role="org:admin")
    production = ledger.add_workspace(account, "Production")
    made_at = floor_hour(now) - 40 * DAY
    first = ledger.add_key(account, "Company A", made_at, creator_user_id="user_ada")
    second = ledger.add_key(account, "Company B", made_at + timedelta(hours=1), workspace_id=production)
    ledger.add_key(account, "Company C", made_at + timedelta(hours=2))
    hour = floor_hour(now)
    two_days_ago = (hour - 2 * DAY).replace(hour=12)
    for at, key_hash, model, credits_usd, byok_usd in (
        (hour - timedelta(minutes=90), first, GPT, "1.00", "0"),
        (hour - timedelta(minutes=30), second, CLAUDE, "0.50", "0"),
        (hour - timedelta(minutes=20), None, CLAUDE, "0.25", "0"),
        (two_days_ago, first, GPT, "7.00", "0"),
        (two_days_ago, first, GPT_MINI, "2.85", "0"),
        (two_days_ago, second, MISTRAL, "0.15", "3.00"),
        (two_days_ago - 8 * DAY, second, CLAUDE, "100.00", "0"),
    ):
        ledger.spend(account, at, key_hash, model, Usage(1, 1_000, 100, 0, 0, Decimal(credits_usd), Decimal(byok_usd)))
    return ledger

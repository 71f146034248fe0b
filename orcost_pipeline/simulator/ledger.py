"""The truth: accounts, their keys through time, and what each of them used.

Belongs here: what happened, and operations that make it happen; every one takes its time. Stays out: HTTP, and what
the API hides, renames or rounds. Operations raise `KeyError` for an account, key or workspace that does not exist.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from orcost_pipeline.simulator.catalogue import MODELS, Model
from orcost_pipeline.simulator.facts import HOUR, NOTHING, ZERO, Fact, FactStore, Usage, floor_hour, with_byok_requests

__all__ = ["ZERO", "Account", "ApiKey", "Counters", "Ledger", "Member", "Usage", "Workspace"]

DAY = timedelta(days=1)
HourlyUsage = dict[tuple[datetime, str | None, str], Usage]
DailyUsage = dict[tuple[date, str | None, str, str], Usage]


@cache
def stable_id(*parts: object) -> str:
    """A UUID that is the same whenever the parts are."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Workspace:
    id: str
    name: str
    slug: str
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    id: str
    email: str
    first_name: str | None = None
    last_name: str | None = None
    role: str = "org:member"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An inference key as it is during one version. `hash` is the SHA-256 of `secret`; `limit` is in USD."""

    hash: str
    name: str
    label: str
    workspace_id: str
    created_at: datetime
    secret: str = field(repr=False)
    creator_user_id: str | None = None
    external_user: str | None = None
    disabled: bool = False
    limit: Decimal | None = None
    limit_reset: str | None = None
    include_byok_in_limit: bool = False
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """A key's own counters, USD: since it was made, and in the current UTC day, week (Monday) and month."""

    usage: Decimal = NOTHING
    usage_daily: Decimal = NOTHING
    usage_weekly: Decimal = NOTHING
    usage_monthly: Decimal = NOTHING
    byok_usage: Decimal = NOTHING
    byok_usage_daily: Decimal = NOTHING
    byok_usage_weekly: Decimal = NOTHING
    byok_usage_monthly: Decimal = NOTHING
    last_used_at: datetime | None = None


@dataclass(slots=True)
class Account:
    """One OpenRouter account. `keys` holds each key's versions, oldest first, with the instant each began."""

    name: str
    management_key: str = field(repr=False)
    credits_bought: Decimal = NOTHING
    workspaces: list[Workspace] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    keys: dict[str, list[tuple[datetime, ApiKey]]] = field(default_factory=dict)
    facts: FactStore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.facts = FactStore(self.workspace_of)

    @property
    def default_workspace(self) -> Workspace:
        return next(workspace for workspace in self.workspaces if workspace.is_default)

    def workspace(self, workspace_id: str) -> Workspace | None:
        return next((workspace for workspace in self.workspaces if workspace.id == workspace_id), None)

    def key_at(self, key_hash: str, now: datetime) -> ApiKey | None:
        """The key as it is at `now`, deleted or not; None before it was made or when it never was."""
        versions = self.keys.get(key_hash, ())
        return next((key for since, key in reversed(versions) if since <= now), None)

    def living_keys(self, now: datetime) -> list[ApiKey]:
        """Keys that are there at `now`, the newest first, as the API lists them."""
        known = (self.key_at(key_hash, now) for key_hash in self.keys)
        living = [key for key in known if key is not None and key.deleted_at is None]
        return sorted(living, key=lambda key: key.created_at, reverse=True)

    def workspace_of(self, key_hash: str | None, at: datetime) -> str:
        """Where usage at `at` belongs; the default workspace for the chat room and for unknown keys."""
        versions = self.keys.get(key_hash or "")
        if not versions:
            return self.default_workspace.id
        key = versions[0][1] if len(versions) == 1 else self.key_at(key_hash or "", at)
        return (key or versions[0][1]).workspace_id


def mask(secret: str) -> str:
    """The label of a secret: `sk-or-v1-0e6...1c96`."""
    return f"{secret[:12]}...{secret[-4:]}"


class Ledger:
    """Accounts and their truth. Changes and answers take `lock`, so a server may read while a test writes."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.models: dict[str, Model] = {model.permaslug: model for model in MODELS}
        self.lock = threading.RLock()

    def add_account(self, name: str, management_key: str | None = None, credits_bought: Decimal = NOTHING) -> Account:
        """A new account with one workspace, its default."""
        secret = management_key or f"sk-or-v1-{sha256(f'management/{name}')}"
        account = Account(name, secret, credits_bought)
        account.workspaces.append(Workspace(stable_id(name, "default"), "Default", "default", is_default=True))
        self.accounts[name] = account
        return account

    def add_model(self, model: Model) -> None:
        self.models[model.permaslug] = model

    def add_workspace(self, account: str, name: str, slug: str | None = None) -> str:
        """Returns the workspace's id."""
        slug = slug or name.lower().replace(" ", "-")
        workspace = Workspace(stable_id(account, slug), name, slug)
        self.accounts[account].workspaces.append(workspace)
        return workspace.id

    def add_member(
        self, account: str, email: str, first_name: str | None = None, last_name: str | None = None, **fields: Any
    ) -> str:
        """Returns the member's user id. `fields`: `id`, `role` (`org:admin`, `org:member`)."""
        fields.setdefault("id", f"user_{sha256(account + email)[:27]}")
        member = Member(email=email, first_name=first_name, last_name=last_name, **fields)
        self.accounts[account].members.append(member)
        return member.id

    def add_key(self, account: str, name: str, at: datetime, *, workspace_id: str | None = None, **fields: Any) -> str:
        """Returns the new key's hash. `fields` are those of `ApiKey`, `secret` among them."""
        owner = self.accounts[account]
        secret = fields.pop("secret", None) or f"sk-or-v1-{sha256(f'{account}/{name}/{len(owner.keys)}')}"
        workspace_id = workspace_id or owner.default_workspace.id
        key = ApiKey(sha256(secret), name, mask(secret), workspace_id, at, secret, **fields)
        with self.lock:
            owner.keys[key.hash] = [(at, key)]
        return key.hash

    def buy_credits(self, account: str, amount_usd: Decimal) -> None:
        """Adds to the credits that the account ever bought, in USD, at once."""
        self.accounts[account].credits_bought += amount_usd

    def spend(
        self,
        account: str,
        at: datetime,
        key_hash: str | None,
        model: str,
        usage: Usage,
        *,
        provider: str | None = None,
        endpoint_id: str | None = None,
        visible_from: datetime | None = None,
        activity_from: datetime | None = None,
    ) -> None:
        """Usage at the instant `at`: counters move at once; analytics shows it from `visible_from` on.

        Activity shows it from `activity_from` on, by default when analytics does.
        """
        known = self.models.get(model)
        provider = provider or (known.provider if known else "Unknown")
        endpoint_id = endpoint_id or stable_id("endpoint", model, provider)
        visible = max(at, visible_from or at)
        active = max(at, activity_from or visible)
        fact = Fact(at, key_hash, model, provider, endpoint_id, with_byok_requests(usage), visible, active)
        with self.lock:
            self.accounts[account].facts.add(fact)

    def change(self, account: str, key_hash: str, at: datetime, **fields: Any) -> None:
        """Sets fields of a key from `at` on, later versions included. `ValueError` before the key was made."""
        owner = self.accounts[account]
        with self.lock:
            versions = owner.keys[key_hash]
            earlier = [version for version in versions if version[0] <= at]
            if not earlier:
                raise ValueError(f"the key {key_hash} did not exist yet at {at}")
            later = [(since, replace(key, **fields)) for since, key in versions if since > at]
            owner.keys[key_hash] = [*earlier, (at, replace(earlier[-1][1], updated_at=at, **fields)), *later]

    def rename(self, account: str, key_hash: str, name: str, at: datetime) -> None:
        """The key has another name from `at` on."""
        self.change(account, key_hash, at, name=name)

    def move(self, account: str, key_hash: str, workspace_id: str, at: datetime) -> None:
        """The key belongs to another workspace from `at` on; earlier usage stays where it was."""
        self.change(account, key_hash, at, workspace_id=workspace_id)
        with self.lock:
            self.accounts[account].facts.forget()

    def disable(self, account: str, key_hash: str, at: datetime, *, disabled: bool = True) -> None:
        """The key is disabled, or enabled again, from `at` on; it is still listed."""
        self.change(account, key_hash, at, disabled=disabled)

    def expire(self, account: str, key_hash: str, at: datetime) -> None:
        """The key expires at `at`; it stays a key."""
        self.change(account, key_hash, at, expires_at=at)

    def delete(self, account: str, key_hash: str, at: datetime) -> None:
        """The key is deleted at `at`; what it used before stays in the account's usage."""
        self.change(account, key_hash, at, deleted_at=at)

    def undelete(self, account: str, key_hash: str, at: datetime) -> None:
        """The deleted key is listed again from `at` on."""
        self.change(account, key_hash, at, deleted_at=None)

    def rotate(self, account: str, key_hash: str, at: datetime, *, overlap: timedelta = timedelta(0)) -> str:
        """A second key like this one is made at `at`, the first is deleted `overlap` later. Returns the new hash."""
        old = self.accounts[account].key_at(key_hash, at)
        if old is None:
            raise KeyError(key_hash)
        new = self.add_key(
            account,
            old.name,
            at,
            workspace_id=old.workspace_id,
            creator_user_id=old.creator_user_id,
            external_user=old.external_user,
            limit=old.limit,
            limit_reset=old.limit_reset,
        )
        self.delete(account, key_hash, at + overlap)
        return new

    def restate(
        self,
        account: str,
        when: date | datetime,
        key_hash: str | None,
        model: str,
        *,
        usage: Usage | None = None,
        factor: Decimal | None = None,
    ) -> None:
        """Rewrites a day (a date) or an hour (a datetime): to `usage` in all, or every fact times `factor`.

        Counters, analytics and activity follow at once. What becomes `ZERO` has no row any more.
        """
        start, end = _span(when)
        store = self.accounts[account].facts
        with self.lock:
            old = store.find(key_hash, model, start, end)
            store.remove(old)
            if factor is not None:
                new = [fact._replace(usage=fact.usage.scaled(factor)) for fact in old]
                for fact in new:
                    if fact.usage != ZERO:
                        store.add(fact)
            elif usage is not None and usage != ZERO:
                first = min(old, key=lambda fact: fact.at, default=None)
                provider = first.provider if first else None
                self.spend(account, first.at if first else start, key_hash, model, usage, provider=provider)

    def hourly(
        self, account: str, start: datetime, end: datetime, *, now: datetime, include_late: bool = False
    ) -> HourlyUsage:
        """Usage of [start, end) by (hour, key or None, model) as analytics shows it at `now`.

        `include_late` adds what happened by `now` and does not show yet.
        """
        found: HourlyUsage = {}
        with self.lock:
            for fact in self.accounts[account].facts.facts(start, end, now, late=include_late):
                place = (floor_hour(fact.at), fact.key_hash, fact.model)
                found[place] = found.get(place, ZERO) + fact.usage
        return found

    def daily(
        self, account: str, first_day: date, end_day: date, *, now: datetime, include_late: bool = False
    ) -> DailyUsage:
        """Usage of the UTC days [first_day, end_day) by (day, key or None, model, provider) as activity shows it.

        The day of `now` is there too, although `/activity` never tells it.
        """
        found: DailyUsage = {}
        with self.lock:
            for day, cells in self.accounts[account].facts.days(first_day, end_day, now, late=include_late):
                for cell, usage in cells.items():
                    place = (day, cell.key_hash, cell.model, cell.provider)
                    found[place] = found.get(place, ZERO) + usage
        return found

    def counters(self, account: str, key_hash: str | None, now: datetime) -> Counters:
        """A key's counters at `now`: late rows count, they have happened."""
        series = self.accounts[account].facts.series(key_hash)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        starts = (midnight, midnight - midnight.weekday() * DAY, midnight.replace(day=1))
        instant = timedelta(microseconds=1)
        with self.lock:
            usage, byok, last = series.until(now)
            before = [series.until(start - instant) for start in starts]
        day, week, month = ((usage - point[0], byok - point[1]) for point in before)
        return Counters(usage, day[0], week[0], month[0], byok, day[1], week[1], month[1], last)

    def credits_used(self, account: str, now: datetime) -> Decimal:
        """USD of credits the account used, ever, whatever the key."""
        with self.lock:
            return sum((series.until(now)[0] for series in self.accounts[account].facts.all_series()), NOTHING)


def _span(when: date | datetime) -> tuple[datetime, datetime]:
    if isinstance(when, datetime):
        return floor_hour(when), floor_hour(when) + HOUR
    midnight = datetime.combine(when, time(), UTC)
    return midnight, midnight + DAY

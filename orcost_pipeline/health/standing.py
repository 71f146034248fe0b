"""The standing of each account, read from one snapshot of the warehouse: the facts behind findings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.alerting.store import FailingReceiver, failing_receivers
from orcost_pipeline.warehouse.deployment import serving
from orcost_pipeline.warehouse.questions.accounts import AccountState, account_states
from orcost_pipeline.warehouse.questions.budgets import Budget, Spike, budgets, spend_spikes
from orcost_pipeline.warehouse.questions.health import (
    Automation,
    RecentSpend,
    UnreadableRows,
    automation,
    open_days,
    recent_spend,
    unreadable_rows,
)
from orcost_pipeline.warehouse.questions.key_health import LimitedKey, NewKey, limited_keys, new_unattributed_keys
from orcost_pipeline.warehouse.questions.keys import KnownKeys, known_keys
from orcost_pipeline.warehouse.questions.mapping import MappingVersion, version_in_force
from orcost_pipeline.warehouse.questions.plans import (
    MissingRate,
    PlanVersion,
    has_rates,
    missing_rates,
    plan_version_in_force,
)
from orcost_pipeline.warehouse.questions.syncs import RunningSync, WaitingRequest, running_syncs, waiting_requests

REQUESTS_WAIT = timedelta(minutes=2)
NOTHING_WRONG = Automation()


@dataclass(frozen=True)
class Standing:
    """What is known of an account: its stored `state`, and the facts that its findings follow from.

    `is_watched` is whether this machine syncs it; `is_accepted` whether OpenRouter accepted its key just now, None
    where that was not checked. `is_spending` is whether a key was charged within a day by a live answer, besides the
    stored spend. `open_days` are UTC days that do not reconcile, oldest first.
    """

    state: AccountState
    is_watched: bool = True
    is_accepted: bool | None = None
    open_days: Sequence[date] = ()
    unreadable: Sequence[UnreadableRows] = ()
    spend: RecentSpend = field(default_factory=RecentSpend)
    keys: KnownKeys = field(default_factory=KnownKeys)
    running: RunningSync | None = None
    has_rules: bool = False
    is_spending: bool = False

    @property
    def account(self) -> str:
        """The account's name."""
        return self.state.account

    @property
    def is_prepaid(self) -> bool:
        """Whether it pays by credits: some were bought, and nothing is spent without any left. Others are invoiced."""
        if self.state.balance_usd is None or not self.state.credits_total_usd or self.state.credits_total_usd < 0:
            return False
        return self.state.balance_usd > 0 or not (self.is_spending or self.spend.spend_24h_usd > 0)

    @property
    def unattributed_share(self) -> Decimal | None:
        """The unattributed part of the last 30 days' spend, from 0 to 1; None without spend."""
        return self.spend.unattributed_30d_usd / self.spend.spend_30d_usd if self.spend.spend_30d_usd else None

    @property
    def days_left(self) -> int | None:
        """Days that the balance lasts at the pace of the last 7 days.

        None for invoiced accounts, without spend, and beyond ten years, which is no forecast.
        """
        if self.state.balance_usd is None or not self.is_prepaid or self.spend.spend_7d_usd <= 0:
            return None
        days = max(0, int(self.state.balance_usd * 7 / self.spend.spend_7d_usd))
        return days if days <= 3_650 else None


@dataclass(frozen=True)
class WarehouseState:
    """The warehouse's view of a deployment: accounts, mapping in force, waiting requests, the state of Dagster's
    automation, receivers of alerts that take no message; then keys near their limit, new keys that belong to nobody,
    budgets of this month, companies with a day far above others; the price plans in force, whether there are
    exchange rates, and currencies that lack one."""

    standings: Sequence[Standing]
    mapping: MappingVersion | None
    waiting: Sequence[WaitingRequest]
    automation: Automation = NOTHING_WRONG
    failing_receivers: Sequence[FailingReceiver] = ()
    limited_keys: Sequence[LimitedKey] = ()
    new_keys: Sequence[NewKey] = ()
    budgets: Sequence[Budget] = ()
    spikes: Sequence[Spike] = ()
    plans: PlanVersion | None = None
    has_rates: bool = False
    missing_rates: Sequence[MissingRate] = ()

    @property
    def lacks_rules(self) -> bool:
        """Whether the last 30 days have spend although no rule is in force."""
        has_rules = self.mapping is not None and self.mapping.rule_count > 0
        return not has_rules and any(it.spend.spend_30d_usd or it.spend.byok_30d_usd for it in self.standings)


def is_syncing(settings: Settings) -> bool:
    """Whether this machine has any key, or is the demo's; without one it only reads what another machine syncs."""
    return any(account.api_key is not None for account in settings.accounts) or settings.is_demo


def read(connection: sa.Connection, settings: Settings, now: datetime) -> WarehouseState:
    """The state of the warehouse at `now` (UTC), read on one connection."""
    mapping = version_in_force(connection)
    has_rules = mapping is not None and mapping.rule_count > 0
    standings = _read_standings(connection, settings, has_rules=has_rules)
    waiting = waiting_requests(connection, now - REQUESTS_WAIT)
    is_serving = serving(connection) is not None
    alerts = settings.alerts
    return WarehouseState(
        standings,
        mapping,
        waiting,
        automation(connection, now, is_serving=is_serving),
        failing_receivers(connection),
        limited_keys=limited_keys(connection, alerts.key_limit_percent),
        new_keys=new_unattributed_keys(connection),
        budgets=budgets(connection, alerts.budget_percent),
        spikes=spend_spikes(connection, alerts.spike_factor, alerts.spike_usd),
        plans=plan_version_in_force(connection),
        has_rates=has_rates(connection),
        missing_rates=missing_rates(connection),
    )


def _read_standings(connection: sa.Connection, settings: Settings, *, has_rules: bool) -> list[Standing]:
    """The standings of all accounts with costs in the warehouse, and of the configured ones."""
    rows = account_states(connection)
    days, spend, keys = open_days(connection), recent_spend(connection), known_keys(connection)
    running, unreadable = running_syncs(connection), unreadable_rows(connection)
    configured = {account.name for account in settings.accounts}
    known = [
        Standing(
            row,
            is_watched=not is_syncing(settings) or row.account in configured,
            open_days=days.get(row.account, ()),
            unreadable=unreadable.get(row.account, ()),
            spend=spend.get(row.account, RecentSpend()),
            keys=keys.get(row.account, KnownKeys()),
            running=running.get(row.account),
            has_rules=has_rules,
        )
        for row in rows
        if row.as_of or row.account in configured or not is_syncing(settings)
    ]
    # On a machine that only reads, the account configured here (usually `default`) does not exist.
    untried = sorted(configured - {row.account for row in rows}) if is_syncing(settings) or not rows else []
    return [*known, *(Standing(AccountState.never_synced(name)) for name in untried)]

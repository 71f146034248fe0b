"""Checks of published data. Contract checks block: they run inside the publication, before its commit. Business checks
warn: they report what a person should look at, with an amount and up to ten rows.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs.placement import Placement
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import LONGEST_VALUE, listed, plural, quoted, short
from orcost_pipeline.warehouse.publication.checks import CONTRACT_CHECKS
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.relations import (
    complete_to,
    differing_charges,
    differing_closed_months,
    disagreeing_days,
    newest_restatements,
    unattributed_shares,
)
from orcost_pipeline.warehouse.questions.rights import undue_rights
from orcost_pipeline.windows import STALE_AFTER

MOST_ROWS = 10

_CONTRACT_CHECKS = {check.name: check for check in CONTRACT_CHECKS}

Row = dict[str, Any]


class BusinessCheck(NamedTuple):
    """A warning: the relation, what is expected of it, the question for an account's rows that violate it, and a
    sentence about them.
    """

    relation: str
    expectation: str
    violations: Callable[[sa.Connection, str, Settings], Rows]
    summary: Callable[[Sequence[Row]], str]


def _unattributed(rows: Sequence[Row]) -> str:
    shares = (f"{_usd(row['unattributed'])} ({row['percent']} % of the {row['what']})" for row in rows)
    return f"{' and '.join(shares)} of the last 30 days is Unattributed: the mapping lacks rules."


def _open(rows: Sequence[Row]) -> str:
    apart = sum((abs(row["residual_credits_usd"]) for row in rows), Decimal(0))
    return f"{plural(len(rows), 'day')} open; keys and account are {_usd(apart)} apart."


def _restated(rows: Sequence[Row]) -> str:
    moved = sum((row["credits_usd_after"] - row["credits_usd_before"] for row in rows), Decimal(0))
    days = len({row["day"] for row in rows})
    return f"{plural(days, 'settled day')} restated by {_usd(moved)}, {days and rows[0]['day']} the newest."


def _undue(rows: Sequence[Row]) -> str:
    return f"{plural(len(rows), 'right')} beyond what orcost access gives."


def _charged_otherwise(rows: Sequence[Row]) -> str:
    days = plural(len(rows), "day")
    return f"{days} of companies charged otherwise than the price plans say; orcost accounts rebuild mends it."


def _not_as_closed(rows: Sequence[Row]) -> str:
    months = plural(len(rows), "closed month")
    return f"{months} of companies whose statement does not sum to what was closed: tables of orcost were edited."


BUSINESS_CHECKS = {
    "unattributed_share_is_small": BusinessCheck(
        "marts.company_spend_rolling",
        "Unattributed is at most 5 % of the last 30 days' spend, or what orcost.toml says "
        "(unattributed_percent under [alerts]).",
        lambda connection, account, settings: unattributed_shares(
            connection, account, settings.alerts.unattributed_percent
        ),
        _unattributed,
    ),
    "witnesses_agree": BusinessCheck(
        "marts.reconciliation_daily",
        "No day is open: keys, hours and activity agree, or differ for a known cause.",
        lambda connection, account, _: disagreeing_days(connection, account),
        _open,
    ),
    "rights_are_as_granted": BusinessCheck(
        "marts.spend_daily",
        "Readers and viewers of orcost access, and everybody in the database, can do no more than they should.",
        lambda connection, _, __: undue_rights(connection),
        _undue,
    ),
    "charges_follow_the_plans": BusinessCheck(
        "marts.company_charge_daily",
        "Charges of the last 35 days are what the price plans make of the usage, computed a second time.",
        lambda connection, account, _: differing_charges(connection, account),
        _charged_otherwise,
    ),
    "closed_months_stay_closed": BusinessCheck(
        "marts.statement",
        "Statements of closed months sum to what was closed.",
        lambda connection, _, __: differing_closed_months(connection),
        _not_as_closed,
    ),
    "settled_days_stay_as_they_were": BusinessCheck(
        "ops.restatement",
        "OpenRouter restated no settled day in this sync.",
        lambda connection, account, _: newest_restatements(connection, account),
        _restated,
    ),
}
# Dagster's freshness is that of the newest account; this check is evaluated for all accounts, in every run.
FRESHNESS_CHECK = "every_account_is_fresh"
_FRESHNESS_EXPECTATION = "Every account was synced within two hours."


def check_specs(place: Placement) -> list[dg.AssetCheckSpec]:
    """The specs of all checks that a publication reports."""
    contract = [place.check(it.name, it.relation, it.invariant, blocking=True) for it in CONTRACT_CHECKS]
    business = [place.check(name, check.relation, check.expectation) for name, check in BUSINESS_CHECKS.items()]
    fresh = dg.AssetCheckSpec(
        FRESHNESS_CHECK, asset=place.key("marts.company_spend_rolling"), description=_FRESHNESS_EXPECTATION
    )
    return [*contract, *business, fresh]


def contract_check(key: dg.AssetCheckKey, account: str) -> dg.AssetCheckResult:
    """The passed result of a contract check: had it failed, nothing would have been published."""
    invariant = _CONTRACT_CHECKS[key.name].invariant
    return _result(key, account, f"{invariant} Checked before the commit.", [])


def business_check(
    connection: sa.Connection, key: dg.AssetCheckKey, account: str, settings: Settings, now: datetime
) -> dg.AssetCheckResult:
    """The result of a business check of one account, with severity WARN; `now` is UTC."""
    if key.name == FRESHNESS_CHECK:
        return _freshness(connection, key, account, settings, now)
    check = BUSINESS_CHECKS[key.name]
    rows = check.violations(connection, account, settings).rows
    return _result(key, account, check.summary(rows) if rows else check.expectation, rows)


def _freshness(
    connection: sa.Connection, key: dg.AssetCheckKey, account: str, settings: Settings, now: datetime
) -> dg.AssetCheckResult:
    known = complete_to(connection)
    rows = [
        {"account": it.name, "complete_to": known.get(it.name) or "never synced"}
        for it in settings.accounts
        if (as_of := known.get(it.name)) is None or now - as_of > STALE_AFTER
    ]
    late = f"Not synced for more than two hours: {listed(row['account'] for row in rows)}."
    return _result(key, account, late if rows else _FRESHNESS_EXPECTATION, rows, is_of_all=True)


def _result(
    key: dg.AssetCheckKey, account: str, description: str, rows: Sequence[Row], *, is_of_all: bool = False
) -> dg.AssetCheckResult:
    """A result whose description names the account, unless it is about all of them; it fails if there are rows."""
    shown = [{name: short(str(value), LONGEST_VALUE) for name, value in row.items()} for row in rows[:MOST_ROWS]]
    metadata = (
        {"found": len(rows), "rows": dg.MetadataValue.table([dg.TableRecord(row) for row in shown])} if rows else {}
    )
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description=description if is_of_all else f"Account {quoted(account)}: {description}",
        metadata=metadata,
    )


def is_contract(key: dg.AssetCheckKey) -> bool:
    """Whether it is a contract check, which blocks the publication."""
    return key.name in _CONTRACT_CHECKS


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f} USD"

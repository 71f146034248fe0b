"""The mapping applied to the warehouse: source → version in force, version × key history → assignment and coverage.

No Dagster here: the assets call these functions.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

import sqlalchemy as sa

from orcost_pipeline.companies.assignment import Assignment, KeyHistory, KeyVersion, assign
from orcost_pipeline.companies.coverage import DAYS, Coverage, first_day
from orcost_pipeline.companies.mapping import Mapping, Rule, Share
from orcost_pipeline.companies.mapping_diff import compare, counted, identity
from orcost_pipeline.companies.preview import KeyDay
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import read_source, what_stays
from orcost_pipeline.sync.sources import Outcome, read_now
from orcost_pipeline.warehouse.mappings import load_version
from orcost_pipeline.warehouse.questions.accounts import account_states
from orcost_pipeline.warehouse.questions.keys import KeyVersionRow, deleted_keys, key_versions
from orcost_pipeline.warehouse.questions.mapping import (
    MappingVersion,
    RuleRow,
    key_days_since,
    rules_in_force,
    version_in_force,
)
from orcost_pipeline.windows import DAY, utc_day


def read_mapping_now(settings: Settings, engine: sa.Engine) -> Outcome[Mapping]:
    """The project's mapping, or the problem with it; neither where there is none and never was. Raises database
    errors."""
    with engine.connect() as connection:
        version = version_in_force(connection)
    stays, is_in_force = what_stays(version), version is not None
    return read_now(lambda: read_source(settings, engine.connect), stays, is_in_force=is_in_force)


def load_mapping(engine: sa.Engine, mapping: Mapping, now: datetime) -> MappingVersion:
    """Makes a mapping the version in force as of `now`, and returns it; one already in force is not loaded again."""
    rows = [_row(rule, share) for rule in mapping.rules for share in rule.shares]
    return load_version(
        engine,
        rows,
        source=mapping.source,
        sha256=mapping.sha256,
        rule_count=len(mapping.rules),
        changed=lambda before: counted(compare(rules_of(before), mapping.rules)),
        now=now,
    )


def _row(rule: Rule, share: Share) -> RuleRow:
    return RuleRow(
        share.line,
        rule.position,
        share.company,
        rule.match,
        rule.pattern,
        rule.account,
        rule.valid_from,
        rule.valid_to,
        share.percent,
        share.note,
    )


def rules_of(rows: Sequence[RuleRow]) -> list[Rule]:
    """The rules of a mapping, from its stored lines in order of position."""
    return [_rule(list(lines)) for _, lines in groupby(rows, key=lambda row: row.position)]


def _rule(lines: list[RuleRow]) -> Rule:
    first = lines[0]
    shares = tuple(Share(line.company, line.share, line.line, line.note) for line in lines)
    return Rule(
        first.position, first.line, first.match, first.pattern, first.account, first.valid_from, first.valid_to, shares
    )


def assignments(connection: sa.Connection, account: str, versions: Sequence[sa.Row]) -> list[Assignment]:
    """The owners of the account's keys by the mapping in force; `versions` are all versions of all keys."""
    return assign(account, rules_of(rules_in_force(connection)), histories(versions))


def histories(versions: Iterable[sa.Row | KeyVersionRow]) -> list[KeyHistory]:
    """Key histories as rules match them; the versions of a key must be adjacent."""
    return [
        KeyHistory(key_hash, tuple(key_version(row) for row in rows))
        for key_hash, rows in groupby(versions, key=lambda row: row.key_hash)
    ]


def key_version(row: sa.Row | KeyVersionRow) -> KeyVersion:
    """One version of a key as rules match it."""
    return KeyVersion(
        row.valid_from,
        row.name,
        row.label,
        row.workspace_id,
        row.workspace_name,
        row.creator_user_id,
        row.creator_email,
        row.external_user,
    )


def synced(connection: sa.Connection, settings: Settings) -> dict[str, datetime]:
    """The configured accounts that were synced, each with the UTC instant its data is complete to (`as_of`)."""
    configured = {account.name for account in settings.accounts}
    return {it.account: it.as_of for it in account_states(connection) if it.as_of and it.account in configured}


def coverage(connection: sa.Connection, settings: Settings, rules: Sequence[Rule]) -> Coverage:
    """The part of keys and spend (USD) that `rules` cover, over the synced accounts and the last `DAYS` of each.

    Computed from stored usage and key histories: `rules` need not be in force.
    """
    found = Coverage()
    for account, as_of in synced(connection, settings).items():
        today = utc_day(as_of)
        found.count(
            account,
            rules,
            histories(key_versions(connection, account)),
            {key_hash: utc_day(at) for key_hash, at in deleted_keys(connection, account).items()},
            (KeyDay(*row) for row in key_days_since(connection, account, first_day(today))),
            today,
        )
    return found


def idle_rules(connection: sa.Connection, found: Coverage, rules: Sequence[Rule], now: datetime) -> list[Mistake]:
    """A warning for each rule that won no key although it is in force for all the days that coverage counts."""
    old = {identity(rule) for rule in rules_of(rules_in_force(connection, now - DAYS * DAY))}
    return found.idle((rule for rule in rules if identity(rule) in old), utc_day(now))

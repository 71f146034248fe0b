"""Where mapping and warehouse meet: source → version in force, version in force × key history → assignment, coverage.

No Dagster here: the assets call these.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

import sqlalchemy as sa

from orcost_pipeline.companies.assignment import Assignment, KeyHistory, KeyVersion, assign
from orcost_pipeline.companies.coverage import DAYS, Coverage, first_day
from orcost_pipeline.companies.mapping import Mapping, MappingError, Rule, Share
from orcost_pipeline.companies.mapping_diff import compare, counted, identity
from orcost_pipeline.companies.preview import KeyDay
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import MappingUnreadableError, read_source
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


def read_mapping_now(settings: Settings, engine: sa.Engine) -> tuple[Mapping | None, str | None]:
    """The mapping, or what is wrong with it and what stays in force; neither where there never was a file."""
    with engine.connect() as connection:
        version = version_in_force(connection)
    stays = f"the mapping of {version.loaded_at:%Y-%m-%d} stays active" if version else "all spend is Unattributed"
    try:
        return read_source(settings, engine.connect), None
    except MappingError as error:
        return None, f"{error.source} was refused; {stays}.\n{error.lines()}"
    except MappingUnreadableError as error:
        if error.is_gone and version is None:
            return None, None
        return None, f"{error.problem}; {stays}. {error.todo}."


def load_mapping(engine: sa.Engine, mapping: Mapping, now: datetime) -> MappingVersion:
    """Brings a valid mapping into force; the one in force already is left as it is."""
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
    """The lines of a mapping, put together again into its rules."""
    return [_rule(list(lines)) for _, lines in groupby(rows, key=lambda row: row.position)]


def _rule(lines: list[RuleRow]) -> Rule:
    first = lines[0]
    shares = tuple(Share(line.company, line.share, line.line, line.note) for line in lines)
    return Rule(
        first.position, first.line, first.match, first.pattern, first.account, first.valid_from, first.valid_to, shares
    )


def assignments(connection: sa.Connection, account: str, versions: Sequence[sa.Row]) -> list[Assignment]:
    """Who owns the account's keys, by the mapping in force and every version of every key."""
    return assign(account, rules_of(rules_in_force(connection)), histories(versions))


def histories(versions: Iterable[sa.Row | KeyVersionRow]) -> list[KeyHistory]:
    """Keys as rules see them; versions of a key stand together."""
    return [
        KeyHistory(key_hash, tuple(key_version(row) for row in rows))
        for key_hash, rows in groupby(versions, key=lambda row: row.key_hash)
    ]


def key_version(row: sa.Row | KeyVersionRow) -> KeyVersion:
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
    """The configured accounts that have figures, each with its `as_of`."""
    configured = {account.name for account in settings.accounts}
    return {it.account: it.as_of for it in account_states(connection) if it.as_of and it.account in configured}


def coverage(connection: sa.Connection, settings: Settings, rules: Sequence[Rule]) -> Coverage:
    """What rules cover of the accounts that have figures, in the days up to each one's last."""
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
    """A warning for each rule that was of no use although it is in force for as long as coverage looks back."""
    old = {identity(rule) for rule in rules_of(rules_in_force(connection, now - DAYS * DAY))}
    return found.idle((rule for rule in rules if identity(rule) in old), utc_day(now))

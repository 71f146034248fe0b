"""One account's publication: history → hours → days → assignment → marts → contract checks → as_of, in one transaction.

What belongs here: the order of the steps, and which rows each may touch. The relations themselves are in `sql/`, one
file each. Nothing is visible before the commit, and nothing is committed that breaks a contract check.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.errors import ContractError
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse import accounts, raw
from orcost_pipeline.warehouse.database import PUBLICATION_LOCK, copy_rows, merge, set_local, sql
from orcost_pipeline.warehouse.healing import heal
from orcost_pipeline.windows import day_start, first_whole_day, hour_floor, is_future, month_start, utc_day

# (key hash or None for no key, valid_from or None, valid_to or None, company, share 0–1, rule)
AssignmentRow = tuple[str | None, date | None, date | None, str, Decimal, str | None]

_FACT_KEYS = ("hour", "account_id", "key_id", "model_id")
_DAY_KEYS = ("day", "account_id", "key_id", "model_id", "provider_id")

# Hours of `core.unkeyed_hour` that this run knows better: it asked for their names, or their keys explain them now.
_NAMED_OR_EXPLAINED = (
    "(exists (select from raw.usage_question q where q.run_id = :run_id and q.account = :account "
    "and q.outcome = 'named' and t.hour >= q.start_at and t.hour < q.end_at) "
    "or (not exists (select from core.usage_hourly u "
    "where u.account_id = :account_id and u.key_id = 0 and u.hour = t.hour) "
    # What is known by day alone stands at the day's first hour.
    "and not exists (select from core.usage_daily u where u.account_id = :account_id and u.key_id = 0 "
    "and u.source = 'analytics' and u.day = (t.hour at time zone 'UTC')::date)))"
)

# What could not be read of what this run asked about: a listing as a whole, usage by account or key and time.
_ASKED_AGAIN = (
    "(t.relation <> 'usage_hourly' and exists (select from raw.extracted e "
    "where e.run_id = :run_id and e.account = :account and e.relation = t.relation) "
    "or exists (select from raw.usage_question q "
    "left join core.api_key k on k.account_id = :account_id and k.key_hash = q.key_hash "
    "where q.run_id = :run_id and q.account = :account and q.outcome in ('heard', 'answered') "
    "and t.relation = 'usage_hourly' and t.grain in ('', q.grain) and t.key_id = coalesce(k.key_id, 0) "
    "and (t.at = '-infinity' or (t.at >= q.start_at and t.at < q.end_at))))"
)

# Days that an answer's oldest counter, the month's, may reach back, and some.
COUNTERS_REACH = timedelta(days=40)

# The laws (sql/check_<name>.sql), and whether each is one of new answers: a mapping alone has none to compare with.
CONTRACT_CHECKS = {
    "every_usage_has_one_owner": False,
    "companies_sum_to_usage": False,
    "account_sums_to_its_answer": True,
    "settled_days_sum_to_activity": True,
}


@dataclass
class Publication:
    """What one publication did, step by step; `rows` counts rows written and deleted, by relation."""

    connection: sa.Connection
    account: str
    account_id: int
    run_id: str
    dagster_run_id: str
    as_of: datetime
    hours_from: datetime
    is_extraction: bool
    is_counted: bool
    tolerance_usd: Decimal
    extracted: datetime | None = None
    is_rebuild: bool = False
    told_from: datetime | None = None
    was_counted: bool = False
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def _parameters(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "account_id": self.account_id,
            "run_id": self.run_id,
            "dagster_run_id": self.dagster_run_id,
            "is_extraction": self.is_extraction,
            "is_rebuild": self.is_rebuild,
            "as_of": self.as_of,
            "tolerance_usd": self.tolerance_usd,
            "this_hour": hour_floor(self.as_of),
            "hours_from": self.hours_from,
            "told_from": self.told_from,
            "first_day": first_whole_day(self.hours_from),
            # Day, week and month of an answer begin after this; older points and what follows from them stay.
            "counters_horizon": day_start(utc_day(self.as_of) - COUNTERS_REACH),
        }

    # ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose_witness(self) -> None:
        """Hours are booked from counters while analytics do not answer, and from analytics as soon as they do."""
        if self.is_counted:
            self._start_counting()
        else:
            self._execute("delete from core.counter_point where account_id = :account_id")
            self._execute("delete from core.counted_span where account_id = :account_id and end_at > :told_from")
            self.was_counted = bool(
                self._execute(
                    "update ref.account set counted_from = null "
                    "where account_id = :account_id and counted_from is not null"
                )
            )

    def _start_counting(self) -> None:
        """From where analytics ended, or from this month's start."""
        began = self._execute(
            "update ref.account set counted_from = case when hours_from is null then :month_start else as_of end "
            "where account_id = :account_id and counted_from is null",
            month_start=month_start(self.as_of),
        )
        if began:
            self._execute(
                "insert into core.counter_point select k.account_id, k.key_id, a.counted_from, k.usage_usd, "
                "k.byok_usage_usd from core.api_key k join ref.account a using (account_id) "
                "where account_id = :account_id and k.deleted_at is null"
            )

    def require_only_holder(self) -> None:
        """Raises AccountTwiceError where another account has any of the keys that are listed."""
        raw_keys = "from raw.api_key where run_id = :run_id and account = :account and not is_deleted"
        keys = self.connection.execute(sa.text(f"select key_hash {raw_keys}"), self._parameters).scalars().all()
        accounts.lock_new_keys(self.connection, self.account, self.run_id)
        is_managed = self.connection.execute(
            sa.text("select is_management_key from raw.account where run_id = :run_id and account = :account"),
            self._parameters,
        ).scalar_one()
        accounts.require_only_holder(
            self.connection, self.account, keys, "Nothing was published", is_managed=is_managed
        )

    def publish_keys(self) -> None:
        """Keys as listed, and a new version of each whose attributes changed."""
        self._stage("api_key")
        self._merge("core.api_key", "staged_api_key", ("account_id", "key_hash"), scope=None)
        self._stage("api_key_version")
        self._execute(
            "delete from core.api_key_version v using staged_api_key_version s "
            "where v.key_id = s.key_id and v.valid_from = :as_of"
        )
        self._execute(
            "update core.api_key_version v set valid_to = :as_of from staged_api_key_version s "
            "where v.key_id = s.key_id and v.valid_to is null"
        )
        self._count(
            "core.api_key_version",
            self._execute(
                "insert into core.api_key_version (key_id, valid_from, name, label, workspace_id, workspace_name, "
                "creator_user_id, creator_email, external_user, is_disabled, is_deleted, expires_at, limit_usd, "
                "limit_reset, include_byok_in_limit) "
                "select s.key_id, :as_of, s.name, s.label, s.workspace_id, s.workspace_name, s.creator_user_id, "
                "s.creator_email, s.external_user, s.is_disabled, s.is_deleted, s.expires_at, s.limit_usd, "
                "s.limit_reset, s.include_byok_in_limit "
                "from staged_api_key_version s"
            ),
        )

    def publish_unreadable(self) -> None:
        """What could not be read; what was not asked about again stays."""
        self._stage("unreadable_row")
        keys = ("account_id", "relation", "endpoint", "key_id", "field", "grain", "at")
        scope = f"t.account_id = :account_id and {_ASKED_AGAIN}"
        self._merge("core.unreadable_row", "staged_unreadable_row", keys, scope=scope)

    def publish_hours(self) -> None:
        """The hours that keys and account were asked for, or, without analytics, those that counters tell of."""
        self._name_models_and_providers()
        self._execute(
            "create temporary table asked_hours on commit drop as "
            "select case when q.key_hash is null then 0 else k.key_id end as key_id, q.start_at, q.end_at "
            "from raw.usage_question q "
            "left join core.api_key k on k.account_id = :account_id and k.key_hash = q.key_hash "
            "where q.run_id = :run_id and q.account = :account and q.grain = 'hour' and q.outcome = 'answered'"
        )
        if self.is_counted:
            self._publish_counters()
        else:
            self._publish_answers()

    def _publish_answers(self) -> None:
        """What the keys do not explain of the account's hours is usage with no key."""
        asked = (
            "exists (select from asked_hours q "
            "where q.key_id = t.key_id and t.hour >= q.start_at and t.hour < q.end_at)"
        )
        if self.was_counted:
            self._stage("counted_day")
        self._stage("usage_hourly")
        scope = f"t.account_id = :account_id and t.key_id <> 0 and {asked}"
        self._merge("core.usage_hourly", "staged_usage_hourly", _FACT_KEYS, scope=scope, touched="touched_hour")
        self._stage("usage_hourly_residual")
        scope = f"t.account_id = :account_id and t.key_id = 0 and {asked}"
        self._merge("core.usage_hourly", "staged_residual", _FACT_KEYS, scope=scope, touched="touched_hour")
        if self.was_counted:
            self._count("ops.counter_replacement", self._execute_file("counter_replacement"))
        self._stage("unkeyed_hour")
        scope = f"t.account_id = :account_id and {_NAMED_OR_EXPLAINED}"
        keys = ("account_id", "hour", "name")
        self._merge("core.unkeyed_hour", "staged_unkeyed_hour", keys, scope=scope, touched="touched_hour")

    def _publish_counters(self) -> None:
        self._stage("counter_point")
        self._stage("usage_hourly_counter")
        scope = "t.account_id = :account_id and t.source = 'counter' and t.hour >= :counters_horizon"
        self._merge("core.usage_hourly", "staged_counter_hour", _FACT_KEYS, scope=scope, touched="touched_hour")
        scope = "t.account_id = :account_id"
        self._merge("core.counter_point", "staged_counter_point", ("account_id", "key_id", "at"), scope=scope)
        self._stage("counted_span")
        self._merge("core.counted_span", "staged_counted_span", ("account_id", "start_at"), scope=scope)

    def publish_days(self) -> None:
        """Days to settle from activity, other changed days from their hours; changes of settled days are noted."""
        self._stage("built_day")
        self._stage("usage_daily")
        self._count("ops.restatement", self._execute_file("restatement"))
        scope = "t.account_id = :account_id and t.day in (select day from built_day)"
        self._merge("core.usage_daily", "staged_usage_daily", _DAY_KEYS, scope=scope, touched="touched_day")
        self._stage("account_day")
        self._merge("core.account_day", "staged_account_day", ("account_id", "day"), scope=None)

    # ── a rebuild ────────────────────────────────────────────────────────────────────────────────────────────────────

    def revive_keys(self) -> None:
        """Keys that are listed were never deleted, whatever a sync with another account's key made of them."""
        listed = (
            "k.account_id = :account_id and exists (select from raw.api_key r where r.run_id = :run_id "
            "and r.account = :account and r.key_hash = k.key_hash and not r.is_deleted)"
        )
        self._execute(
            "create temporary table revived_key on commit drop as "
            f"select distinct k.key_id from core.api_key k join core.api_key_version v using (key_id) "
            f"where v.is_deleted and {listed}"
        )
        self._execute(
            "delete from core.api_key_version where is_deleted and key_id in (select key_id from revived_key)"
        )
        self._execute(
            "update core.api_key_version v set valid_to = n.valid_to from (select key_id, valid_from, lead(valid_from) "
            "over (partition by key_id order by valid_from) as valid_to from core.api_key_version "
            "where key_id in (select key_id from revived_key)) n "
            "where v.key_id = n.key_id and v.valid_from = n.valid_from and v.valid_to is distinct from n.valid_to"
        )

    def forget_foreign_keys(self) -> None:
        """Keys that are not this account's, with what is stored of them on days and hours that this run was told."""
        self._stage("foreign_key")
        self._execute(
            "create temporary table told_from on commit drop as select coalesce(min(start_at) filter "
            "(where grain = 'hour'), :counters_horizon) as hour, (least(min(start_at), :this_hour) "
            "at time zone 'UTC')::date as day from raw.usage_question "
            "where run_id = :run_id and account = :account and key_hash is null and outcome = 'answered'"
        )
        self._stage("unkeyed_cell")
        told = "u.account_id = :account_id and ({})::date >= t.day"
        theirs = "u.key_id in (select key_id from foreign_key)"
        beside = "u.key_id = 0 and (u.hour, u.model_id) in (select hour, model_id from unkeyed_cell)"
        hours, days = told.format("u.hour at time zone 'UTC'"), told.format("u.day")
        self._forget("hour", f"{hours} and ({theirs} or ({beside}))")
        self._forget("day", f"{days} and {theirs}")
        measures = ", ".join(MEASURES)
        self._execute(
            f"insert into core.usage_hourly (hour, account_id, key_id, model_id, {measures}, source) "
            f"select hour, :account_id, 0, model_id, {measures}, source from unkeyed_cell "
            "where is_right and (requests <> 0 or abs(credits_usd) >= 1e-9 or abs(byok_usd) >= 1e-9)"
        )
        # A day that this run does not settle follows from its hours, without them.
        self._execute(
            "update core.account_day d set is_settled = false from told_from t where d.account_id = :account_id "
            "and d.day >= :first_day and d.day in (select day from touched_day) and not exists (select from "
            "raw.usage_question q where q.run_id = :run_id and q.account = :account and q.grain in ('day', 'past_day') "
            "and q.key_hash is null and q.outcome = 'answered' and (q.start_at at time zone 'UTC')::date = d.day)"
        )
        self._execute(
            "delete from ops.restatement r using core.api_key k, told_from t where r.account = :account "
            "and k.key_hash = r.key_hash and r.day >= t.day and k.account_id = :account_id "
            "and k.key_id in (select key_id from foreign_key)"
        )
        self._forget_keys_without_usage()

    def _forget(self, bucket: str, condition: str) -> None:
        """Usage by hour or by day that a condition names; what follows from it is rebuilt."""
        relation = {"hour": "core.usage_hourly", "day": "core.usage_daily"}[bucket]
        deletion = f"delete from {relation} u using told_from t where {condition} returning u.{bucket}"
        collected = f"with gone as ({deletion}) insert into touched_{bucket} select {bucket} from gone"
        self._count(relation, self._execute(collected))

    def _forget_keys_without_usage(self) -> None:
        """Foreign keys of which nothing is stored any more; the others stay, deleted, with what they used before."""
        self._execute(
            "delete from foreign_key f where exists (select from core.usage_daily u where u.account_id = :account_id "
            "and u.key_id = f.key_id) or exists (select from core.usage_hourly u where u.account_id = :account_id "
            "and u.key_id = f.key_id)"
        )
        for relation in ("core.counter_point", "core.api_key_version", "core.api_key"):
            self._count(
                relation, self._execute(f"delete from {relation} where key_id in (select key_id from foreign_key)")
            )

    # ── attribution ──────────────────────────────────────────────────────────────────────────────────────────────────

    def key_versions(self) -> Sequence[sa.Row]:
        """Every version of every key of the account, oldest first."""
        return self.connection.execute(
            sa.text(
                "select k.key_hash, v.* from core.api_key k join core.api_key_version v using (key_id) "
                "where k.account_id = :account_id order by k.key_id, v.valid_from"
            ),
            self._parameters,
        ).all()

    def publish_assignment(self, rows: Iterable[AssignmentRow]) -> None:
        """Who owns which key from which day on; days with usage under a changed owner are rebuilt."""
        self._execute(
            "create temporary table told_assignment (key_hash text, valid_from date, valid_to date, company text, "
            "share numeric, rule text) on commit drop"
        )
        columns = ("key_hash", "valid_from", "valid_to", "company", "share", "rule")
        told = [(key, start or "-infinity", end or "infinity", *rest) for key, start, end, *rest in rows]
        companies = {company for _, _, _, company, _, _ in told}
        copy_rows(self.connection, "told_assignment", columns, told)
        self._name(
            "ref.company", "company", "select distinct unnest(cast(:companies as text[]))", companies=[*companies]
        )
        self._execute(
            "create temporary table staged_assignment on commit drop as "
            "select :account_id ::integer as account_id, coalesce(k.key_id, 0) as key_id, t.valid_from, t.valid_to, "
            "c.company_id, t.share, t.rule "
            "from told_assignment t join ref.company c using (company) "
            "left join core.api_key k on k.account_id = :account_id and k.key_hash = t.key_hash"
        )
        owners = "key_id, valid_from, valid_to, company_id, share"
        published = f"select {owners} from core.assignment where account_id = :account_id"
        # A rule of another name moves no money.
        self._execute(
            "create temporary table touched_assignment on commit drop as "
            f"(select {owners} from staged_assignment except {published}) "
            f"union all ({published} except select {owners} from staged_assignment)"
        )
        keys = ("account_id", "key_id", "valid_from", "company_id")
        self._merge("core.assignment", "staged_assignment", keys, scope="t.account_id = :account_id")
        self._execute(
            "insert into touched_day select distinct u.day "
            "from core.usage_daily u join touched_assignment t using (key_id) "
            "where u.account_id = :account_id and u.day >= t.valid_from and u.day < t.valid_to"
        )

    # ── marts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def publish_marts(self) -> None:
        """Company days that were touched, and the account's rolling windows."""
        self._stage("company_day")
        scope = "t.account_id = :account_id and t.day in (select day from touched_day)"
        self._merge("core.company_day", "staged_company_day", ("day", "account_id", "company_id"), scope=scope)
        self._publish_rolling()

    def _publish_rolling(self) -> None:
        """Rolling windows move with every extraction; a mapping alone moves the keys whose owners it changed."""
        self._stage("rolling_edge")
        self._stage("rolled_usage")
        self._stage("rolled_key")
        whole = "t.account_id = :account_id"
        rolled = whole if self.is_extraction else f"{whole} and t.key_id in (select key_id from touched_assignment)"
        for relation, keys, scope in (
            ("key_rolling", ("account_id", "key_id", "company_id", "period"), rolled),
            ("key_previous", ("account_id", "key_id", "company_id", "period"), rolled),
            ("company_rolling", ("account_id", "company_id", "period"), whole),
        ):
            self._stage(relation)
            self._merge(f"core.{relation}", f"staged_{relation}", keys, scope=scope)

    # ── contract ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> frozenset[str]:
        """The laws that were asked about; raises ContractError with up to ten offending rows where one does not hold:
        nothing is committed then."""
        names = [name for name, is_of_answers in CONTRACT_CHECKS.items() if self.is_extraction or not is_of_answers]
        for name in names:
            rows = self.connection.execute(sql(f"check_{name}"), self._parameters).mappings().fetchmany(10)
            if rows:
                told = "; ".join(", ".join(f"{key} {value}" for key, value in row.items()) for row in rows)
                raise ContractError(
                    f'Contract check {name} failed for account "{self.account}"; nothing was published. Rows: {told}'
                )
        return frozenset(names)

    def finish(self) -> None:
        """Makes the account complete up to `as_of`; a mapping alone moves no instant."""
        if not self.is_extraction:
            return
        self._stage("account")
        raw.purge(self.connection, self.account, self.as_of)

    # ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _name_models_and_providers(self) -> None:
        self._name(
            "core.model",
            "model",
            "select model from raw.usage_hourly where run_id = :run_id and account = :account "
            "union select model from raw.usage_daily where run_id = :run_id and account = :account "
            "union select model from raw.activity_daily where run_id = :run_id and account = :account "
            "union select '(unknown)' where :is_counted",
            is_counted=self.is_counted,
        )
        self._name(
            "core.provider",
            "provider",
            "select distinct provider from raw.activity_daily "
            "where run_id = :run_id and account = :account and provider <> ''",
        )

    def _name(self, relation: str, column: str, names: str, **parameters: Any) -> None:
        """Adds the names that a relation of all accounts lacks, in a transaction of its own: another account's
        publication, which may add the same, would wait for this one's end, or both for each other's.
        """
        addition = (
            f"insert into {relation} ({column}) select {column} from ({names}) as told ({column}) "
            f"where not exists (select from {relation} known where known.{column} = told.{column}) "
            f"order by {column} on conflict do nothing"
        )
        with self.connection.engine.begin() as connection:
            connection.execute(sa.text(addition), {**self._parameters, **parameters})

    def _stage(self, relation: str) -> None:
        self._execute_file(relation)

    def _execute_file(self, name: str) -> int:
        return self.connection.execute(sql(name), self._parameters).rowcount

    def _merge(
        self, target: str, staged: str, keys: Sequence[str], *, scope: str | None, touched: str | None = None
    ) -> None:
        merged = merge(
            self.connection,
            target,
            staged,
            keys,
            scope=scope,
            parameters=self._parameters,
            touched=touched,
        )
        self._count(target, merged.total)

    def _execute(self, statement: str, **parameters: Any) -> int:
        return self.connection.execute(sa.text(statement), {**self._parameters, **parameters}).rowcount

    def _count(self, relation: str, rows: int) -> None:
        self.rows[relation] = self.rows.get(relation, 0) + max(rows, 0)


@contextmanager
def publication(
    engine: sa.Engine, account: str, run_id: str, dagster_run_id: str, now: datetime, tolerance_usd: Decimal
) -> Iterator[Publication | None]:
    """A publication of the run's extraction, or, where it has none or something newer is published, of the mapping over
    what is published. Yields None for an account that was never synced. Commits when the block ends well.

    Nothing is extracted in the future of `now`; what an earlier sync published there is put right first.
    `tolerance_usd` holds from here on for all that compares: the steps, the checks, and what is derived when read.
    """
    with engine.begin() as connection:
        # Another publication of the account may take minutes, and ends.
        connection.execute(sa.text(set_local({"lock_timeout": "'20min'"})))
        connection.execute(
            sa.text("select pg_advisory_xact_lock(:kind, hashtext(:account))"),
            {"kind": PUBLICATION_LOCK, "account": account},
        )
        connection.execute(sa.text(set_local({"lock_timeout": "'30s'"})))
        connection.execute(sa.text("create temporary table touched_hour (hour timestamptz) on commit drop"))
        connection.execute(sa.text("create temporary table touched_day (day date) on commit drop"))
        extracted = raw.complete_as_of(connection, run_id, account)
        is_whole = extracted is not None and not is_future(extracted, now)
        if extracted and is_whole:
            heal(connection, account, extracted, now)
        stored = connection.execute(
            sa.text("select account_id, as_of, hours_from from ref.account where account = :account"),
            {"account": account},
        ).one_or_none()
        is_extraction = is_whole and (stored is None or stored.as_of is None or extracted >= stored.as_of)
        as_of: datetime | None = extracted if is_extraction else getattr(stored, "as_of", None)
        if stored is None or as_of is None:
            yield None
            return
        _set_tolerance(connection, stored.account_id, tolerance_usd)
        is_counted = is_extraction and raw.is_extracted(connection, raw.COUNTERS, run_id, account)
        told_from = raw.hours_told_from(connection, run_id, account) if is_extraction and not is_counted else None
        yield Publication(
            connection,
            account,
            stored.account_id,
            run_id,
            dagster_run_id,
            as_of,
            _hours_from(stored, as_of, told_from, has_hole=_is_inside_a_sum(connection, stored.account_id, told_from)),
            is_extraction=is_extraction,
            is_counted=is_counted,
            tolerance_usd=tolerance_usd,
            extracted=extracted,
            is_rebuild=is_extraction and raw.is_extracted(connection, raw.REBUILD, run_id, account),
            told_from=told_from,
        )


def _set_tolerance(connection: sa.Connection, account_id: int, tolerance_usd: Decimal) -> None:
    connection.execute(
        sa.text("update ref.account set tolerance_usd = :usd where account_id = :account_id and tolerance_usd <> :usd"),
        {"account_id": account_id, "usd": tolerance_usd},
    )


def _is_inside_a_sum(connection: sa.Connection, account_id: int, told_from: datetime | None) -> bool:
    """Whether analytics begin among hours that counters told as one sum: they replace it, and lack what came before."""
    # A span begins with the first hour after a sync, which knew its own hour in part.
    inside = "account_id = :account_id and start_at <= :told_from and end_at > :told_from"
    parameters = {"account_id": account_id, "told_from": told_from}
    return bool(
        connection.execute(
            sa.text(f"select exists (select from core.counted_span where {inside})"), parameters
        ).scalar()
    )


def _hours_from(stored: sa.Row, as_of: datetime, told_from: datetime | None, *, has_hole: bool) -> datetime:
    """From which hour on all are known: counters begin with a month, analytics tell all that they reach (from
    `told_from` on; None where they told nothing).

    What was known before a time without syncs, or a sum, that those do not reach back over stays, and is not whole.
    """
    if told_from is None:
        return stored.hours_from or month_start(as_of)
    has_hole |= stored.as_of is None or stored.as_of < told_from
    return told_from if has_hole else min(stored.hours_from, told_from)

"""The sums that publications keep, made anew from the facts, the assignments and the versions of keys."""

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES

_SHARED = ", ".join(f"sum(u.{measure} * s.share)" for measure in MEASURES)
_WHOLE = ", ".join(f"sum(u.{measure})" for measure in MEASURES)
_HOUR_DAY = "(u.hour at time zone 'UTC')::date"
_OWNER = (
    "join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id "
    "and s.valid_from <= {day} and s.valid_to > {day}"
)
_HOLDER = (
    "left join core.api_key_day_span h on h.key_id = u.key_id and h.first_day <= {day} and h.end_day > {day} "
    "cross join lateral (values {values}) v (attribute, value)"
)
_HELD = "('creator', h.creator), ('workspace', h.workspace)"
_ROLLED = f"('model', m.model), {_HELD}"

MADE_ANEW = {
    "core.company_hour": f"select u.hour, u.account_id, s.company_id, {_SHARED} from core.usage_hourly u "
    f"{_OWNER.format(day=_HOUR_DAY)} group by 1, 2, 3",
    "core.model_month": f"select date_trunc('month', u.day::timestamp)::date, u.account_id, s.company_id, u.model_id, "
    f"{_SHARED} from core.usage_daily u {_OWNER.format(day='u.day')} group by 1, 2, 3, 4",
    "core.holder_day": "select v.attribute, u.day, u.account_id, s.company_id, v.value is not null, "
    f"coalesce(v.value, ''), {_SHARED} from core.usage_daily u {_OWNER.format(day='u.day')} "
    f"{_HOLDER.format(day='u.day', values=_HELD)} group by 1, 2, 3, 4, 5, 6",
    "core.rolling_total": "select u.account_id, v.attribute, r.period, v.value is not null, coalesce(v.value, ''), "
    f"{_WHOLE} from core.usage_hourly u join core.rolling_span r on r.account_id = u.account_id "
    "and u.hour >= r.start_at join core.model m using (model_id) "
    f"{_HOLDER.format(day=_HOUR_DAY, values=_ROLLED)} group by 1, 2, 3, 4, 5",
}


def untrue_sums(connection: sa.Connection) -> dict[str, list[tuple[object, ...]]]:
    """By table, rows that are not those made anew, and those that are missing; nothing where all is true."""
    untrue = {}
    for table, anew in MADE_ANEW.items():
        rows = connection.exec_driver_sql(
            f"(select '-', k.* from (table {table} except ({anew})) k) union all "
            f"(select '+', k.* from (({anew}) except table {table}) k)"
        ).all()
        if rows:
            untrue[table] = [tuple(row) for row in rows[:5]]
    return untrue

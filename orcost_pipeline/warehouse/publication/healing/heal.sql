-- An account whose `as_of` lies in the future goes back to its last good sync. "Now" is that of the sync that heals.

-- The account, as it stood.
update ref.account
set as_of = :good_as_of,
    hours_from = :good_hours_from,
    full_pass_at = null,
    counted_from = case when counted_from <= :as_of then counted_from end
where account_id = :account_id;

-- Days since then are made anew.
delete from core.usage_daily where account_id = :account_id and day > :good_day;

delete from core.company_day where account_id = :account_id and day > :good_day;

delete from core.holder_day where account_id = :account_id and day > :good_day;

delete from core.account_day where account_id = :account_id and day > :good_day;

-- So are the months that they were summed to.
delete from core.model_month where account_id = :account_id and month > :good_day;

insert into touched_month
select date_trunc('month', cast(:good_day as date)::timestamp)::date;

-- Days before that may be settled too early are built again.
with doubted as (
    update core.account_day
    set is_settled = false
    where account_id = :account_id and day = any(:doubted_days) and is_settled
    returning day
)
insert into touched_hour
select day::timestamp at time zone 'UTC' from doubted;

-- What was noticed in the future was noticed now.
update ref.account
set workspaces_refused_since = least(workspaces_refused_since, :as_of),
    members_refused_since = least(members_refused_since, :as_of)
where account_id = :account_id;

update core.unreadable_row set noticed_at = :as_of where account_id = :account_id and noticed_at > :as_of;

-- Hours of the future, and counter readings since.
delete from core.usage_hourly where account_id = :account_id and hour > :as_of;

delete from core.company_hour where account_id = :account_id and hour > :as_of;

delete from core.unkeyed_hour where account_id = :account_id and hour > :as_of;

delete from core.counter_point where account_id = :account_id and at > :since;

delete from core.counted_span where account_id = :account_id and start_at >= :since;

-- Changes of keys in the future are read again; a key that is known only since then keeps its last version.
update core.api_key
set deleted_at = case when deleted_at <= :as_of then deleted_at end, first_seen_at = least(first_seen_at, :as_of)
where account_id = :account_id and greatest(deleted_at, first_seen_at) > :as_of;

delete from core.api_key_version v
where v.key_id in (select key_id from core.api_key where account_id = :account_id) and v.valid_from > :as_of
    and (
        v.valid_to is not null
        or exists (select from core.api_key_version o where o.key_id = v.key_id and o.valid_from <= :as_of)
    );

update core.api_key_version v
set valid_from = least(v.valid_from, :as_of), valid_to = null
where v.key_id in (select key_id from core.api_key where account_id = :account_id)
    and greatest(v.valid_from, v.valid_to) > :as_of;

-- Days that were not settled have no restatements; those of the others were noticed now, each day's as one.
delete from ops.restatement where account = :account and noticed_at > :as_of and day = any(:doubted_days);

with noticed as (
    delete from ops.restatement where account = :account and noticed_at > :as_of returning *
)
insert into ops.restatement
select account, day, key_hash, model, :as_of,
    (array_agg(credits_usd_before order by noticed_at))[1],
    (array_agg(credits_usd_after order by noticed_at desc))[1],
    (array_agg(byok_usd_before order by noticed_at))[1],
    (array_agg(byok_usd_after order by noticed_at desc))[1],
    min(run_id)
from noticed
group by account, day, key_hash, model;

with replaced as (
    delete from ops.counter_replacement where account = :account and replaced_at > :as_of returning *
)
insert into ops.counter_replacement
select distinct on (day) account, day, :as_of, counted_credits_usd, told_credits_usd, counted_byok_usd, told_byok_usd,
    run_id
from replaced
order by day, replaced_at desc;

-- One row per account, UTC month and company: spend.
create or replace view marts.company_spend_monthly as
with days as (
    select s.*, date_trunc('month', s.day::timestamp)::date as month from core.company_day s
), months as (
    select d.account_id, m.month, min(d.day)::timestamp at time zone 'UTC' as known_from,
        count(*) = least(m.next_month, (a.as_of at time zone 'UTC')::date + 1) - m.month as is_complete,
        count(*) filter (where d.is_settled) = m.next_month - m.month as is_settled, m.next_month,
        coalesce(bool_or(d.is_settled) filter (where d.day = m.month), false) as begins_settled,
        coalesce(bool_or(d.is_settled) filter (where d.day = m.next_month - 1), false) as ends_settled
    from core.account_day d
    join ref.account a using (account_id)
    cross join lateral (
        select date_trunc('month', d.day::timestamp)::date as month,
            (date_trunc('month', d.day::timestamp) + interval '1 month')::date as next_month
    ) m
    group by d.account_id, a.as_of, m.month, m.next_month
), cut as (
    -- Months that begin or end inside a span for which counters know only one sum.
    select m.account_id, m.month, max(c.end_at) filter (where c.start_at < b.start_at) as known_from
    from months m
    cross join lateral (
        select m.month::timestamp at time zone 'UTC' as start_at, m.next_month::timestamp at time zone 'UTC' as end_at
    ) b
    join core.counted_span c on c.account_id = m.account_id
        and ((c.start_at < b.start_at and c.end_at > b.start_at and not m.begins_settled)
            or (c.start_at < b.end_at and c.end_at > b.end_at and not m.ends_settled))
    group by m.account_id, m.month
)
select
    a.account, s.month, c.company,
    sum(s.requests) as requests,
    sum(s.prompt_tokens) as prompt_tokens,
    sum(s.completion_tokens) as completion_tokens,
    sum(s.reasoning_tokens) as reasoning_tokens,
    sum(s.cached_tokens) as cached_tokens,
    sum(s.credits_usd) as credits_usd,
    sum(s.byok_usd) as byok_usd,
    m.is_settled, a.as_of, c.display_name, c.external_id, c.cost_centre, c.owner_email,
    greatest(m.known_from, x.known_from) as known_from, m.is_complete and x.month is null as is_complete
from days s
join months m using (account_id, month)
left join cut x using (account_id, month)
join ref.account a using (account_id)
join ref.company c using (company_id)
group by a.account, a.as_of, s.month, c.company_id, m.is_settled, m.known_from, m.is_complete, x.month, x.known_from;

-- One row per company, closed UTC month and later month in which a change of it is charged: the changes kept in closed
-- months, and today's difference, in the month after the company's last closed one. A month before that one is open
-- only where the company had nothing in it when the last one was closed.
create or replace view core.adjustment as
with booked as (
    select company_id, month, sum(amount_usd) as amount_usd, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd,
        sum(purchase_fee_usd) as purchase_fee_usd
    from core.closed_adjustment
    group by company_id, month
), difference as (
    select c.company_id, c.month,
        coalesce(l.usage_usd + l.minimum_usd + l.monthly_fee_usd + l.purchase_fee_usd, 0)
            - coalesce(k.usage_usd + k.minimum_usd + k.monthly_fee_usd + k.purchase_fee_usd, 0)
            - coalesce(b.amount_usd, 0) as amount_usd,
        coalesce(l.credits_usd, 0) - coalesce(k.credits_usd, 0) - coalesce(b.credits_usd, 0) as credits_usd,
        coalesce(l.byok_usd, 0) - coalesce(k.byok_usd, 0) - coalesce(b.byok_usd, 0) as byok_usd,
        coalesce(l.purchase_fee_usd, 0) - coalesce(k.purchase_fee_usd, 0) - coalesce(b.purchase_fee_usd, 0)
            as purchase_fee_usd,
        coalesce(l.monthly_fee_usd, 0) <> coalesce(k.monthly_fee_usd, 0) as has_other_fee
    from core.closed c
    left join core.charge_month l using (month, company_id)
    left join core.closed_month k using (month, company_id)
    left join booked b using (month, company_id)
), last_closed as (
    -- Changes known when the last month was closed are among those kept then.
    select distinct on (company_id) company_id, month, closed_at, as_of,
        coalesce(mapping_version, 0) as mapping_version, coalesce(plan_version, 0) as plan_version
    from core.closed
    order by company_id, month desc
)
select company_id, month, booked_month, amount_usd, credits_usd, byok_usd, purchase_fee_usd, reason, noticed_at
from core.closed_adjustment
union all
select d.company_id, d.month, (l.month + interval '1 month')::date, d.amount_usd, d.credits_usd, d.byok_usd,
    d.purchase_fee_usd,
    coalesce(
        nullif(
            concat_ws(
                '; ',
                case when r.is_restated then 'restatement' end,
                case when r.is_late then 'late usage' end,
                case when x.is_moved then 'mapping' end,
                case when x.is_repriced then 'plan' end
            ),
            ''
        ),
        'restatement'
    ),
    coalesce(
        greatest(
            r.noticed_at,
            case when x.is_moved and v.mapping_version > l.mapping_version then v.mapping_at end,
            case when x.is_repriced then v.plan_at end
        ),
        v.as_of
    )
from difference d
join last_closed l using (company_id)
cross join lateral (
    -- Restatements since then, shared as the company owns the keys today.
    select coalesce(sum((r.credits_usd_after - r.credits_usd_before) * s.share), 0) as credits_usd,
        coalesce(sum((r.byok_usd_after - r.byok_usd_before) * s.share), 0) as byok_usd,
        bool_or(r.credits_usd_before <> 0 or r.byok_usd_before <> 0) as is_restated,
        bool_or(r.credits_usd_before = 0 and r.byok_usd_before = 0) as is_late, max(r.noticed_at) as noticed_at
    from ops.restatement r
    join ref.account a using (account)
    left join core.api_key k on k.account_id = a.account_id and k.key_hash = r.key_hash
    join core.assignment s on s.account_id = a.account_id and s.key_id = coalesce(k.key_id, 0)
        and s.valid_from <= r.day and s.valid_to > r.day and s.company_id = d.company_id
    where r.day >= d.month and r.day < (d.month + interval '1 month')::date and (
        l.as_of is null or r.noticed_at > coalesce(
            (
                -- An account may have been synced later than the others.
                select max(n.as_of)
                from ops.sync_run n
                where n.account = r.account and n.status = 'succeeded' and n.finished_at <= l.closed_at
            ),
            l.as_of
        )
    )
) r
cross join (
    select a.mapping_version, m.loaded_at as mapping_at, a.plan_version, p.loaded_at as plan_at, a.as_of
    from (
        select max(mapping_version) as mapping_version, max(plan_version) as plan_version, max(as_of) as as_of
        from ref.account
    ) a
    left join ref.mapping_version m on m.version = a.mapping_version
    left join ref.price_plan_version p on p.version = a.plan_version
) v
cross join lateral (
    -- Restatements are recorded from a billionth of a dollar on: a difference of a few smaller ones is no change of
    -- owner.
    select greatest(abs(d.credits_usd - r.credits_usd), abs(d.byok_usd - r.byok_usd)) > 0.0000001 as is_moved,
        coalesce(v.plan_version, 0) > l.plan_version and (d.amount_usd <> 0 or d.purchase_fee_usd <> 0) and (
        d.has_other_fee or (d.credits_usd = 0 and d.byok_usd = 0)
        -- Plan rows for the company and a day of the month that only one of the two versions has.
        or exists (
            select
            from ref.price_plan p
            join ref.company c on c.company_id = d.company_id and p.company in (c.company, '*')
            where p.version in (l.plan_version, v.plan_version)
                and coalesce(p.valid_from, '-infinity') < d.month + interval '1 month'
                and coalesce(p.valid_to, 'infinity') > d.month
            group by p.company, p.charge, p.value, p.model, greatest(coalesce(p.valid_from, '-infinity'), d.month),
                least(coalesce(p.valid_to, 'infinity'), (d.month + interval '1 month')::date)
            having count(*) = 1
        )
        -- The same usage at another price, for example because rows were reordered.
        or exists (
            select
            from core.closed_line k
            join core.usage_line u on u.month = k.month and u.company_id = k.company_id
            join ref.account a on a.account_id = u.account_id and a.account = k.account
            join core.model m on m.model_id = u.model_id and m.model = k.model
            left join core.api_key y on y.key_id = u.key_id
            where k.month = d.month and k.company_id = d.company_id and k.kind = 'usage'
                and y.key_hash is not distinct from k.key_hash and u.requests = k.requests
                and u.prompt_tokens = k.prompt_tokens and u.completion_tokens = k.completion_tokens
                and u.credits_usd = k.credits_usd and u.byok_usd = k.byok_usd and u.charge_usd <> k.amount_usd
        )
    ) as is_repriced
) x
where d.amount_usd <> 0 or d.credits_usd <> 0 or d.byok_usd <> 0 or d.purchase_fee_usd <> 0;

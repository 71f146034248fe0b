-- One row per API key (0: no key), company and rolling period; a living key without usage is there with 0.
create temporary table staged_key_rolling on commit drop as
with living as (
    select k.key_id, s.company_id, p.period
    from core.api_key k
    join core.assignment s on s.account_id = k.account_id and s.key_id = k.key_id
        and s.valid_from <= (:as_of at time zone 'UTC')::date and s.valid_to > (:as_of at time zone 'UTC')::date
    cross join (values ('24h'), ('7d'), ('30d')) as p (period)
    where k.account_id = :account_id and k.deleted_at is null
        and (:is_extraction or k.key_id in (select key_id from rolled_again))
)
select :account_id ::integer as account_id, key_id, company_id, period, coalesce(u.requests, 0) as requests,
    coalesce(u.prompt_tokens, 0) as prompt_tokens, coalesce(u.completion_tokens, 0) as completion_tokens,
    coalesce(u.reasoning_tokens, 0) as reasoning_tokens, coalesce(u.cached_tokens, 0) as cached_tokens,
    coalesce(u.credits_usd, 0) as credits_usd, coalesce(u.byok_usd, 0) as byok_usd,
    coalesce(c.charge_usd, 0) as charge_usd
from (select * from rolled_key where not is_previous) u
full join living l using (key_id, company_id, period)
left join rolled_charge c using (key_id, company_id, period)

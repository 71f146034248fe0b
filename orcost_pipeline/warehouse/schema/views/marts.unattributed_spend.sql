-- One row per account and API key (null: usage without a key) with spend that no mapping rule attributes to a company.
create or replace view marts.unattributed_spend as
select
    a.account, k.key_hash, v.name as key_name, min(u.day) as first_day, max(u.day) as last_day,
    sum(u.credits_usd * s.share)::numeric(38, 18) as credits_usd,
    sum(u.byok_usd * s.share)::numeric(38, 18) as byok_usd, a.as_of
from core.assignment s
join core.usage_daily u on u.account_id = s.account_id and u.key_id = s.key_id
    and u.day >= s.valid_from and u.day < s.valid_to
join ref.account a on a.account_id = s.account_id
left join core.api_key k on k.key_id = s.key_id
left join core.api_key_version v on v.key_id = s.key_id and v.valid_to is null
where s.company_id = 0
group by a.account, a.as_of, s.key_id, k.key_hash, v.name;

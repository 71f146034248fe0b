select k.key_hash, max(v.name) filter (where v.valid_to is null) as name, array_agg(distinct v.name) as names,
    max(v.workspace_id) filter (where v.valid_to is null) as workspace_id, k.usage_usd, k.byok_usage_usd,
    k.last_used_at, case when k.deleted_at <= :known_to then k.deleted_at end as deleted_at
from core.api_key k
join core.api_key_version v using (key_id)
where k.account_id = :account_id
group by k.key_id

-- One row per API key (0: no key), first UTC day and company that owns a share of it.
create temporary table staged_assignment on commit drop as
select :account_id ::integer as account_id, coalesce(k.key_id, 0) as key_id, t.valid_from, t.valid_to, c.company_id,
    t.share, t.rule
from owner t
join ref.company c using (company)
left join core.api_key k on k.account_id = :account_id and k.key_hash = t.key_hash

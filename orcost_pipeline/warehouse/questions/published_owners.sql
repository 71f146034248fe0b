select k.key_hash, nullif(s.valid_from, '-infinity') as valid_from, nullif(s.valid_to, 'infinity') as valid_to,
    c.company, s.share, s.rule
from core.assignment s
join ref.account a using (account_id)
join core.api_key k using (key_id)
join ref.company c using (company_id)
where a.account = :account
order by k.key_hash, s.valid_from, c.company

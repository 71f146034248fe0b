select left(key_hash, 8) as key, nullif(valid_from::text, '-infinity') as valid_from,
    nullif(valid_to::text, 'infinity') as valid_to, company, share, rule
from ref.assignment
where account = :account
order by key_hash nulls first, valid_from
limit :most

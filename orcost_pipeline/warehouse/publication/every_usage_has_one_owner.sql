-- Keys whose assignment does not cover every day with shares that sum to 1: overlaps, gaps, wrong sums.
with cut as (
    select key_id, valid_from as day from core.assignment where account_id = :account_id
    union
    select key_id, valid_to from core.assignment where account_id = :account_id and valid_to < 'infinity'
    union
    select key_id, '-infinity' from core.api_key where account_id = :account_id
    union
    select 0, '-infinity'
)
select c.key_id, c.day::text as from_day, coalesce(sum(s.share), 0) as shares
from cut c
left join core.assignment s on s.account_id = :account_id and s.key_id = c.key_id
    and s.valid_from <= c.day and s.valid_to > c.day
group by c.key_id, c.day
having coalesce(sum(s.share), 0) <> 1

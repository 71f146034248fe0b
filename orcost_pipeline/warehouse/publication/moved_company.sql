-- One row per company that got or lost a key, or a share of one: from which hour on, up to which. A key that an
-- extraction finds has no usage but that of touched hours.
create temporary table moved_company on commit drop as
with stored as (
    select key_id, valid_from, valid_to, company_id, share
    from core.assignment
    where account_id = :account_id and key_id in (select key_id from touched_assignment)
), staged as (
    select key_id, valid_from, valid_to, company_id, share
    from staged_assignment
    where key_id in (select key_id from touched_assignment)
        and (not :is_extraction or key_id in (select key_id from stored))
), span as (
    select key_id, valid_from as first_day,
        coalesce(lead(valid_from) over (partition by key_id order by valid_from), 'infinity') as end_day
    from (select key_id, valid_from from stored union select key_id, valid_from from staged) cut
), owner as (
    select s.key_id, s.first_day, s.end_day, o.company_id, o.share
    from span s
    join (select * from stored union all select * from staged) o on o.key_id = s.key_id
        and o.valid_from <= s.first_day and o.valid_to > s.first_day
), changed as (
    -- An owner whose share did not change occurs twice.
    select first_day, end_day, company_id
    from owner
    group by key_id, first_day, end_day, company_id, share
    having count(*) = 1
)
select company_id, min(first_day)::timestamp at time zone 'UTC' as start_at,
    max(end_day)::timestamp at time zone 'UTC' as end_at
from changed
group by company_id

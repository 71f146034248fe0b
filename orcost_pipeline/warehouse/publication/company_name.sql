-- Companies of the assignment that no account has met yet.
insert into ref.company (company)
select company
from (select distinct unnest(cast(:companies as text[])) as company) assigned
where not exists (select from ref.company known where known.company = assigned.company)
order by company
on conflict do nothing

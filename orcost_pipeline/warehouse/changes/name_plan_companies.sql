-- Companies that a version of the price plans names: one without keys can be charged a fee too.
insert into ref.company (company)
select company
from (select distinct company from ref.price_plan where version = :version and company <> '*') named
where not exists (select from ref.company known where known.company = named.company)
order by company
on conflict do nothing

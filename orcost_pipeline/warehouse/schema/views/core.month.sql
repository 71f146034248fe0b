-- One row per UTC month from the first that is stored to the running one.
create or replace view core.month as
select g.month::date as month
from (
    select date_trunc('month', min(d.day)::timestamp) as first_month,
        (select date_trunc('month', max(as_of) at time zone 'UTC') from ref.account) as last_month
    from core.account_day d
) span
cross join generate_series(span.first_month, span.last_month, interval '1 month') as g (month);

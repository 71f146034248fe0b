select account, endpoint, field, sum(rows)::int as rows,
    coalesce(array_agg(distinct day) filter (where day is not null), '{}') as days, min(noticed_at) as noticed_at
from ops.unreadable_row
group by account, endpoint, field
order by account, endpoint, field

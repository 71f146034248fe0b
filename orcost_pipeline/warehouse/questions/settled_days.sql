select count(*) as settled, count(*) filter (where is_reconciled) as reconciled
from (
    select bool_and(r.status <> 'open') as is_reconciled
    from marts.reconciliation_daily r
    join ref.account a using (account)
    join core.account_day d using (account_id, day)
    where d.is_settled
        and d.day::timestamp at time zone 'UTC' >= :start and (d.day + 1)::timestamp at time zone 'UTC' <= :end
        and (cast(:account as text) is null or r.account = :account)
    group by d.day
) days

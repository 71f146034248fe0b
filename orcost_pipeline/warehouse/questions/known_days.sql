select a.account, min(d.day) as first_day, max(d.day) as last_day, bool_or(d.day = :day) as is_known,
    bool_and(d.is_settled) filter (where d.day = :day) as is_settled
from core.account_day d
join ref.account a using (account_id)
where cast(:account as text) is null or a.account = :account
group by a.account
order by a.account

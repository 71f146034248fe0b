-- Days stored since the last good sync, and those before that may have been settled too early since.
select d.day
from core.account_day d
join ref.account a using (account_id)
where a.account = :account
    and (
        d.day > :good_day
        or (d.day + 1)::timestamp at time zone 'UTC' > :settled_to
            and exists (
                select from raw.usage_question q
                where q.account = a.account and q.as_of > :now and q.grain in ('day', 'past_day')
                    and (q.start_at at time zone 'UTC')::date = d.day
            )
    )

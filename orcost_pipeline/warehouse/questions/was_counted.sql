-- Whether the hours of the last good sync were derived from counters, including those replaced since.
select exists (select from ops.counter_replacement where account = :account and replaced_at > :now)
    or exists (
        select from core.account_day d
        join ref.account a using (account_id)
        where a.account = :account and d.day = :good_day and d.is_counted
    )

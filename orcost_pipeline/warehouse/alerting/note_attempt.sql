with attempt as (
    update ops.alert_delivery
    set attempts = attempts + 1, sent_at = :sent_at, next_attempt_at = :next_attempt_at, error = :error
    where alert_id = any(:alert_ids) and kind = :kind and url_sha256 = :url_sha256
    returning alert_id, kind
),
others as (
    -- What the other receivers of the same message still lack, and when the last of them took it.
    select a.alert_id,
        coalesce(bool_or(d.next_attempt_at is not null), false) as is_pending, max(d.sent_at) as sent_at
    from attempt a
    left join ops.alert_delivery d
        on d.alert_id = a.alert_id and d.kind = a.kind and d.url_sha256 <> :url_sha256
    group by a.alert_id
),
state as (
    select alert_id,
        case
            when not is_pending and cast(:next_attempt_at as timestamptz) is null
                then greatest(sent_at, cast(:sent_at as timestamptz))
        end as sent_at
    from others
)
update ops.alert a
set attempts = a.attempts + 1,
    error = :error,
    sent_at = case when :kind = 'opened' then coalesce(s.sent_at, a.sent_at) else a.sent_at end,
    resolution_sent_at = case when :kind = 'resolved' then s.sent_at else a.resolution_sent_at end
from state s
where a.id = s.alert_id

-- Messages that nobody will take any more: their receiver is no longer configured, or a day has passed.
update ops.alert_delivery d
set next_attempt_at = null
from ops.alert a
where a.id = d.alert_id and d.next_attempt_at is not null
    and (
        not d.url_sha256 = any(:receivers)
        or (d.attempts > 0 and (case d.kind when 'opened' then a.opened_at else a.resolved_at end) < :before)
    )

-- Messages that nobody will take any more: a day has passed, or their receiver is no longer configured, which then is
-- no failing one either.
update ops.alert_delivery d
set next_attempt_at = null,
    error = case when d.url_sha256 = any(:receivers) then d.error end
from ops.alert a
where a.id = d.alert_id and d.sent_at is null
    and case
        when d.url_sha256 = any(:receivers) then d.next_attempt_at is not null and d.attempts > 0
            and case d.kind when 'opened' then a.opened_at else a.resolved_at end < :before
        else d.next_attempt_at is not null or d.error is not null
    end

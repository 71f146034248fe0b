-- A message counts as sent when no receiver waits for it any more, at the instant the last of them took it.
with delivered as (
    select d.alert_id, d.kind, max(d.sent_at) as sent_at
    from ops.alert_delivery d
    join ops.alert a on a.id = d.alert_id
    where case d.kind when 'opened' then a.sent_at else a.resolution_sent_at end is null
    group by d.alert_id, d.kind
    having bool_and(d.next_attempt_at is null) and max(d.sent_at) is not null
)
update ops.alert a
set sent_at = coalesce(a.sent_at, opened.sent_at),
    resolution_sent_at = coalesce(a.resolution_sent_at, resolved.sent_at)
from (select distinct alert_id from delivered) it
left join delivered opened on opened.alert_id = it.alert_id and opened.kind = 'opened'
left join delivered resolved on resolved.alert_id = it.alert_id and resolved.kind = 'resolved'
where a.id = it.alert_id

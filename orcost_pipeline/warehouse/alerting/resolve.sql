-- A resolution goes to every receiver that the alert was addressed to, once at least one of them took it.
with resolved as (
    update ops.alert
    set resolved_at = :now, resolution = :resolution
    where id = :alert_id and resolved_at is null
    returning id
),
taken as (
    select exists (
        select from ops.alert_delivery d
        where d.alert_id = :alert_id and d.kind = 'opened' and d.sent_at is not null
    ) and not :is_silent as is_told
),
cancelled as (
    update ops.alert_delivery d
    set next_attempt_at = null
    from resolved, taken
    where d.alert_id = resolved.id and d.next_attempt_at is not null and not taken.is_told
)
insert into ops.alert_delivery (alert_id, kind, service, url_sha256, next_attempt_at)
select d.alert_id, 'resolved', d.service, d.url_sha256, :now
from resolved, taken, ops.alert_delivery d
where d.alert_id = resolved.id and d.kind = 'opened' and (d.sent_at is not null or d.next_attempt_at is not null)
    and taken.is_told
on conflict do nothing

-- Messages whose time has come, oldest first; a resolution waits for the message that it resolves.
select a.id, a.account, a.code, a.subject, a.severity, a.message, a.todo, a.began_at as since, a.opened_at, a.resolved_at,
    a.resolution, d.kind, d.url_sha256, d.attempts
from ops.alert_delivery d
join ops.alert a on a.id = d.alert_id
where d.next_attempt_at <= :now and d.url_sha256 = any(:receivers)
    and not (
        d.kind = 'resolved' and exists (
            select from ops.alert_delivery o
            where o.alert_id = d.alert_id and o.kind = 'opened' and o.url_sha256 = d.url_sha256
                and o.next_attempt_at is not null
        )
    )
order by coalesce(a.resolved_at, a.opened_at), a.id, d.kind

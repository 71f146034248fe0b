select a.id, a.account, a.code, a.subject, a.severity, a.message, a.todo, a.opened_at, a.sent_at, a.resolved_at,
    a.resolution_sent_at, a.attempts, a.error
from ops.alert a
where a.resolved_at is null or :has_history
order by a.opened_at desc, a.id desc

select a.id, a.account, a.code, a.subject, a.opened_at, a.missing_since,
    exists (
        select from ops.alert_delivery d where d.alert_id = a.id
    ) as is_addressed
from ops.alert a
where a.resolved_at is null
order by a.id

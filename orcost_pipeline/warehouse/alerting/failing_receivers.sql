-- Receivers that took nothing since a message failed three times, and since when that message waits.
select d.service,
    min(case d.kind when 'opened' then a.opened_at else a.resolved_at end) as since,
    (array_agg(d.error order by a.id desc))[1] as error
from ops.alert_delivery d
join ops.alert a on a.id = d.alert_id
where d.sent_at is null and d.attempts >= 3 and d.error is not null
    and not exists (
        select from ops.alert_delivery later
        join ops.alert l on l.id = later.alert_id
        where later.url_sha256 = d.url_sha256
            and later.sent_at > case d.kind when 'opened' then a.opened_at else a.resolved_at end
    )
group by d.service

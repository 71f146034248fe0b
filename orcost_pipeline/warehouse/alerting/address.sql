insert into ops.alert_delivery (alert_id, kind, service, url_sha256, next_attempt_at)
values (:alert_id, 'opened', :service, :url_sha256, :now)
on conflict do nothing

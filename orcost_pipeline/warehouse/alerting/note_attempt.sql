with attempt as (
    update ops.alert_delivery
    set attempts = attempts + 1, sent_at = :sent_at, next_attempt_at = :next_attempt_at, error = :error
    where alert_id = any(:alert_ids) and kind = :kind and url_sha256 = :url_sha256
    returning alert_id
)
update ops.alert a
set attempts = a.attempts + 1, error = :error
from attempt
where a.id = attempt.alert_id

-- Alerts that were resolved before an instant, with their messages.
delete from ops.alert
where resolved_at < :before

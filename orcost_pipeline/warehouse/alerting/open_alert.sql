insert into ops.alert (account, code, subject, severity, message, todo, since, opened_at)
values (:account, :code, :subject, :severity, :message, :todo, :since, :now)
returning id

insert into ops.alert (account, code, subject, severity, message, todo, began_at, opened_at)
values (:account, :code, :subject, :severity, :message, :todo, :since, :now)
returning id

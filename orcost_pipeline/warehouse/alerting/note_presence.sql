-- The alerts whose finding this look did not find are missing from now on; the others are there again.
update ops.alert
set missing_since = case when id = any(:missing) then coalesce(missing_since, :now) end
where resolved_at is null
    and (missing_since is not null) is distinct from (id = any(:missing))

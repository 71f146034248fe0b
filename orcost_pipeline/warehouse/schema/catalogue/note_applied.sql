-- What is applied now, under its name.
insert into ops.schema_object (name, content_sha256, arguments, applied_at)
values (:name, :content_sha256, :arguments, now())
on conflict (name) do update
    set content_sha256 = excluded.content_sha256, arguments = excluded.arguments, applied_at = excluded.applied_at

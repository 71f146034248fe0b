-- The schemas of the warehouse with their comments. Where another user made one for us, that user alone may change its
-- comment.
select nspname, obj_description(oid, 'pg_namespace') as comment
from pg_namespace
where nspname = any(:schemas) and pg_has_role(nspowner, 'usage')

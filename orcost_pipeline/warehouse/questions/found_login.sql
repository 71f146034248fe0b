-- One row where the server has a role of this name: what it is, and whether orcost access made it for this database.
select rolcanlogin as can_login, rolinherit as inherits, has_database_privilege(oid, current_database(), 'connect') as may_connect,
    coalesce(shobj_description(oid, 'pg_authid') = :mark, false) as is_made
from pg_roles
where rolname = cast(:login as text)

-- What was applied last, by name.
select name, content_sha256, arguments
from ops.schema_object

select status, error
from ops.sync_request
where id = :id

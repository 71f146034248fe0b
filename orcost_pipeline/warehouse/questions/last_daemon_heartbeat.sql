select to_timestamp(max(cast(cast(body as json) ->> 'timestamp' as double precision))) as at
from dagster.daemon_heartbeats

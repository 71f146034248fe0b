select to_timestamp(max(cast(cast(body as json) ->> 'timestamp' as numeric))) as at
from dagster.daemon_heartbeats

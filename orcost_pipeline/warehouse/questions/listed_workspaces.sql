select workspace_id
from raw.workspace
where account = :account and run_id = :extraction_id

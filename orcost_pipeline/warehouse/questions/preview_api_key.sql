select name, workspace_name, company, usage_usd, last_used_at
from ref.api_key
where account = :account
order by usage_usd desc
limit :most

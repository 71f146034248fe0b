select *
from marts.company_spend_rolling
where period = :period and (cast(:account as text) is null or account = :account)
    and (cast(:company as text) is null or company = :company)

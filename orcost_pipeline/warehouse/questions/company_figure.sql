select *
from marts.company_spend_daily
where day = :day and company = :company and (cast(:account as text) is null or account = :account)

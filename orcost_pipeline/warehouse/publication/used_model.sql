-- Every company and model that it used in the account.
select distinct c.company, m.model
from core.model_month u
join ref.company c using (company_id)
join core.model m using (model_id)
where u.account_id = :account_id
order by c.company, m.model

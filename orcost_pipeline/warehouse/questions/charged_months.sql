select s.company, s.month, s.status, s.currency, coalesce(k.per_usd, case s.currency when 'USD' then 1 end) as per_usd
from marts.company_charge_monthly s
join ref.company c using (company)
left join core.month_currency k on k.month = s.month and k.company_id = c.company_id
where c.company_id <> 0 and s.month <= :upto
order by s.month, s.company

select day, sum(credits_usd) as whole, coalesce(sum(credits_usd) filter (where company = 'Unattributed'), 0) as part
from marts.company_spend_daily
where account = :account
group by day
order by day desc
limit :most

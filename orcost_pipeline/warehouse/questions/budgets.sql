select month, company, budget_usd, spent_usd, forecast_usd,
    core.budget_status(budget_usd, spent_usd, forecast_usd, :near_percent) as status
from marts.company_budget_monthly
where month = (select date_trunc('month', max(as_of) at time zone 'UTC')::date from ref.account)
order by company

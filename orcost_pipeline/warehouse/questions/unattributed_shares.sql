select round(100 * unattributed / whole, 2) as percent, unattributed, what
from (
    select what, sum(usd) as whole, sum(usd) filter (where company = 'Unattributed') as unattributed
    from marts.company_spend_rolling
    cross join lateral (values ('credits', credits_usd), ('BYOK spend', byok_usd)) as amounts (what, usd)
    where account = :account and period = '30d'
    group by what
) spend
where 100 * unattributed > :unattributed_percent * whole
order by what desc

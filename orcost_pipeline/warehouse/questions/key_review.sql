-- Most urgent first: advice on keys that stop working, then on keys that may cost too much, then on tidiness.
select r.*
from core.key_review r
cross join lateral (
    select min(array_position(
        array[
            'limit_reached', 'expires_soon', 'limit_near', 'no_limit', 'unused_90_days', 'older_than_365_days',
            'shared_name', 'unused_30_days'
        ],
        code
    )) as place
    from unnest(r.advice) as code
) urgency
where cast(:account as text) is null or r.account = :account
order by urgency.place nulls last, r.credits_30d_usd desc, r.account, r.key_name, r.key_hash

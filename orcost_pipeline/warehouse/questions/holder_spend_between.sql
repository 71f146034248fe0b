-- Usage belongs to the creator and workspace that the key had on the day, also that of single hours. Owners do not
-- matter here: the shares of a key sum to its usage.
select a.account, a.as_of, case when :by = 'creator' then s.holder end as creator,
    case when :by = 'workspace' then s.holder end as workspace,
    s.requests, s.prompt_tokens, s.completion_tokens, s.reasoning_tokens, s.cached_tokens, s.credits_usd, s.byok_usd
from (
    select d.account_id, case when d.is_known then d.holder end as holder, d.requests, d.prompt_tokens,
        d.completion_tokens, d.reasoning_tokens, d.cached_tokens, d.credits_usd, d.byok_usd
    from core.holder_day d
    where d.attribute = :by and d.day >= :first and d.day < :last
    union all
    select e.account_id, case when :by = 'creator' then h.creator else h.workspace end, e.requests, e.prompt_tokens,
        e.completion_tokens, e.reasoning_tokens, e.cached_tokens, e.credits_usd, e.byok_usd
    from core.usage_hourly e
    left join core.api_key_day_span h on h.key_id = e.key_id
        and h.first_day <= (e.hour at time zone 'UTC')::date and h.end_day > (e.hour at time zone 'UTC')::date
    where e.hour = any(cast(:hours as timestamptz[]))
) s
join ref.account a using (account_id)
where cast(:account as text) is null or a.account = :account

-- One row per API key (0: no key), company and rolling period in which it was used in the period before.
create temporary table staged_key_previous on commit drop as
select :account_id ::integer as account_id, key_id, company_id, period, credits_usd, byok_usd
from rolled_key
where is_previous

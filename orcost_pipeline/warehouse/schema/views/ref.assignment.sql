-- One row per account, API key (null: usage without a key), first day and company: the company's share of the key's
-- usage. Complete: every key is covered from -infinity to infinity, and the shares of a day sum to 1.
create or replace view ref.assignment as
select a.account, k.key_hash, s.valid_from, c.company, s.valid_to, s.share, s.rule
from core.assignment s
join ref.account a using (account_id)
join ref.company c using (company_id)
left join core.api_key k using (key_id);

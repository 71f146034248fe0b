-- Exchange rates become those that are listed, where they differ.
insert into ref.exchange_rate (date, currency, per_usd)
select date, currency, per_usd from listed_rate
except
select date, currency, per_usd from ref.exchange_rate
on conflict (currency, date) do update set per_usd = excluded.per_usd

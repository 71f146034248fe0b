-- Exchange rates that are no longer listed.
delete from ref.exchange_rate r
where not exists (select from listed_rate t where t.currency = r.currency and t.date = r.date)

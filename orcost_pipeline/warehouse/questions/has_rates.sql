select exists (select from ref.exchange_rate)

select date, currency, per_usd
from ref.exchange_rate

-- One row per currency and date of the exchange rates: filled from their file or table.
create temporary table listed_rate (date date, currency text, per_usd numeric) on commit drop

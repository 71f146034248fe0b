-- The rows of marts.spend_hourly in a span of hours, of a company or of all, in the order of their grain, by code point.
select *
from marts.spend_hourly
where hour >= :start and hour < :end and (cast(:company as text) is null or company = :company)
order by account collate "C", hour, company collate "C", key_hash, model collate "C"

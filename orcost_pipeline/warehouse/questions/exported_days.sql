-- The rows of marts.spend_daily from a first day to before a last one, of a company or of all, in the order of their
-- grain: by code point, so that a file is the same whatever the server's collation is.
select *
from marts.spend_daily
where day >= :first and day < :last and (cast(:company as text) is null or company = :company)
order by account collate "C", day, company collate "C", key_hash, model collate "C", provider collate "C"

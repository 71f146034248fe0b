-- With their lines, and with the adjustments that are charged in them.
delete from core.closed_month m
using ref.company c
where c.company_id = m.company_id and m.month = :month and (cast(:company as text) is null or c.company = :company)

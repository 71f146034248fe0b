select exists (
    select
    from core.company_day d
    join ref.company c using (company_id)
    where c.company = :company and date_trunc('month', d.day::timestamp)::date = :month
)

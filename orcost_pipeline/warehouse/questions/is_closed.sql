-- Whether a month is closed for a company, or (null) for every company, including those that get something in it only
-- later.
select case
    when cast(:company as text) is not null then exists (
        select
        from core.closed d
        join ref.company c using (company_id)
        where d.month = :month and c.company = :company
    )
    else exists (select from ops.period_close where month = :month and company is null and reopened_at is null)
        and not exists (
            select
            from ref.company c
            where not exists (select from core.closed d where d.month = :month and d.company_id = c.company_id)
        )
end

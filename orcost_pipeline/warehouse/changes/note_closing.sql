-- With what spend was attributed and charged by, so that a later change is known as one.
insert into ops.period_close (month, company, closed_at, closed_by, accepted, as_of, mapping_version, plan_version)
values (
    :month, :company, :at, :who, :accepted,
    (select min(a.as_of) from core.month_span s join ref.account a using (account_id) where s.month = :month),
    (select max(mapping_version) from ref.account), (select max(plan_version) from ref.account)
)

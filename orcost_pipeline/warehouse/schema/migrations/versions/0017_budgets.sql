-- What a company may spend in a month, in USD of credits and BYOK, and the currency that it is charged in.

alter table ref.company
    add column currency text,
    add column monthly_budget_usd numeric check (monthly_budget_usd > 0);

-- Settings that views need: from which percentage on a limit or a budget is nearly used. One row, written by syncs.

create table ref.threshold (
    key_limit_percent numeric not null,
    budget_percent numeric not null
);
create unique index threshold_single on ref.threshold ((true));
insert into ref.threshold values (80, 80);

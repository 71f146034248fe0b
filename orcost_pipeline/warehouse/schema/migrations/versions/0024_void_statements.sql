-- What a closed statement said before its month was opened again: it may have been sent.

create table ops.void_statement (
    month date not null check (extract(day from month) = 1),
    company text not null,
    closed_at timestamptz not null,
    reopened_at timestamptz not null,
    currency text not null,
    total numeric not null,
    total_usd numeric not null,
    html text not null,
    csv text not null,
    json text not null,
    primary key (month, company, closed_at)
);

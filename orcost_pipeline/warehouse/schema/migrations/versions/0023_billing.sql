-- Price plans, as their file was written: the highest version is in force.

create table ref.price_plan_version (
    version integer generated always as identity primary key,
    loaded_at timestamptz not null,
    source text not null,
    content_sha256 text not null,
    row_count integer not null
);

create table ref.price_plan (
    version integer not null references ref.price_plan_version,
    line integer not null,
    company text not null check (company <> 'Unattributed'),
    charge text not null check (charge in (
        'markup_percent', 'byok_percent', 'prompt_usd_per_million', 'completion_usd_per_million', 'request_usd',
        'credit_purchase_percent', 'monthly_fee_usd', 'monthly_minimum_usd'
    )),
    value numeric,
    model text,
    valid_from date,
    valid_to date,
    note text,
    primary key (version, line)
);

create table ref.exchange_rate (
    date date not null,
    currency text not null,
    per_usd numeric not null check (per_usd > 0),
    primary key (currency, date)
);

-- What a company's use of a model costs on a span of days, as factors of what was used: the rows of the plans that hold.
-- Without a row of its own, use costs what OpenRouter charged.

create table core.price (
    account_id smallint not null,
    company_id integer not null,
    model_id integer not null,
    is_counter boolean not null,
    valid_from date not null,
    valid_to date not null,
    credits_rate numeric not null,
    byok_rate numeric not null,
    prompt_rate numeric not null,
    completion_rate numeric not null,
    request_rate numeric not null,
    purchase_rate numeric not null,
    plan text not null,
    primary key (account_id, company_id, model_id, is_counter, valid_from)
);

-- Mapping and plans that an account was published with last.

alter table ref.account add column mapping_version integer, add column plan_version integer;

alter table core.company_day add column charge_usd numeric, add column purchase_fee_usd numeric;
update core.company_day set charge_usd = case company_id when 0 then 0 else credits_usd end, purchase_fee_usd = 0;
alter table core.company_day alter column charge_usd set not null, alter column purchase_fee_usd set not null;

alter table core.key_rolling add column charge_usd numeric;
update core.key_rolling set charge_usd = case company_id when 0 then 0 else credits_usd end;
alter table core.key_rolling alter column charge_usd set not null;

alter table core.company_rolling add column charge_usd numeric;
update core.company_rolling set charge_usd = case company_id when 0 then 0 else credits_usd end;
alter table core.company_rolling alter column charge_usd set not null;

-- Whether viewers see what their usage cost, or what they are charged for it.

alter table ref.threshold add column show_cost boolean not null default true;

-- Months that are closed. What a closed month was is kept here, whatever the days say later.

create table ops.period_close (
    id integer generated always as identity primary key,
    month date not null check (extract(day from month) = 1),
    company text check (company <> 'Unattributed'),
    closed_at timestamptz not null,
    closed_by text not null,
    accepted text,
    reopened_at timestamptz,
    reopened_by text,
    reason text,
    as_of timestamptz,
    mapping_version integer,
    plan_version integer
);

create table core.closed_month (
    month date not null,
    company_id integer not null references ref.company,
    credits_usd numeric not null,
    byok_usd numeric not null,
    usage_usd numeric not null,
    minimum_usd numeric not null,
    monthly_fee_usd numeric not null,
    purchase_fee_usd numeric not null,
    currency text not null,
    per_usd numeric not null,
    rate_date date,
    is_settled boolean not null,
    as_of timestamptz not null,
    html text,
    csv text,
    json text,
    primary key (month, company_id)
);

create table core.closed_line (
    month date not null,
    company_id integer not null,
    line integer not null,
    kind text not null,
    account text,
    key_hash text,
    key_name text,
    model text,
    adjusted_month date,
    requests numeric,
    prompt_tokens numeric,
    completion_tokens numeric,
    credits_usd numeric,
    byok_usd numeric,
    amount_usd numeric not null,
    amount numeric not null,
    primary key (month, company_id, line),
    foreign key (month, company_id) references core.closed_month on delete cascade
);

create table core.closed_adjustment (
    company_id integer not null references ref.company,
    month date not null,
    booked_month date not null,
    amount_usd numeric not null,
    credits_usd numeric not null,
    byok_usd numeric not null,
    purchase_fee_usd numeric not null,
    reason text not null,
    noticed_at timestamptz not null,
    primary key (company_id, month, booked_month),
    foreign key (booked_month, company_id) references core.closed_month (month, company_id) on delete cascade
);

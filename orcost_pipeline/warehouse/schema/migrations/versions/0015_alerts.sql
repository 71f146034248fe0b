-- Alerts: one row per finding from when it appears until it is gone, and one per message and receiver.

create table ops.alert (
    id bigint generated always as identity primary key,
    account text,
    code text not null,
    subject text,
    severity text not null check (severity in ('error', 'warning', 'note')),
    message text not null,
    todo text not null,
    began_at timestamptz,
    opened_at timestamptz not null,
    sent_at timestamptz,
    missing_since timestamptz,
    resolved_at timestamptz,
    resolution text,
    resolution_sent_at timestamptz,
    attempts integer not null default 0,
    error text
);
create unique index alert_open on ops.alert (code, account, subject) nulls not distinct where resolved_at is null;
create index alert_opened on ops.alert (opened_at);

create table ops.alert_delivery (
    alert_id bigint not null references ops.alert on delete cascade,
    kind text not null check (kind in ('opened', 'resolved')),
    service text not null,
    url_sha256 text not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    sent_at timestamptz,
    error text,
    primary key (alert_id, kind, url_sha256)
);
create index alert_delivery_pending on ops.alert_delivery (next_attempt_at) where next_attempt_at is not null;

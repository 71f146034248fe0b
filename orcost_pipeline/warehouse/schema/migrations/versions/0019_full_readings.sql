-- A full reading is spread over the week: when each day's hours, and each key's activity, were last part of it.

alter table core.account_day add column hours_read_at timestamptz;
alter table core.api_key add column activity_read_at timestamptz;

alter table raw.usage_question drop constraint usage_question_outcome_check;
alter table raw.usage_question add constraint usage_question_outcome_check
    check (outcome in ('answered', 'silent', 'unexplained', 'named', 'covered', 'heard', 'full'));

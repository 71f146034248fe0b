-- Listings that OpenRouter refuses to a valid key, since when; null where it tells them.

alter table ref.account
    add column workspaces_refused_since timestamptz,
    add column members_refused_since timestamptz;

-- How far back analytics told the account's hours.

alter table raw.usage_question drop constraint usage_question_outcome_check;
alter table raw.usage_question add constraint usage_question_outcome_check
    check (outcome in ('answered', 'silent', 'unexplained', 'named', 'covered'));

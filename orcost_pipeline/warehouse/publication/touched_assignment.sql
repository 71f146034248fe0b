-- One row per owner that is new and per one that is no longer; a rule of another name moves no money.
create temporary table touched_assignment on commit drop as
with stored as (
    select key_id, valid_from, valid_to, company_id, share from core.assignment where account_id = :account_id
), staged as (
    select key_id, valid_from, valid_to, company_id, share from staged_assignment
)
(select * from staged except select * from stored)
union all
(select * from stored except select * from staged)

-- The account, where it is not known yet. A number of the identity is used up by each insert, also one in vain.
insert into ref.account (account)
select :account
where not exists (select from ref.account where account = :account)
on conflict do nothing

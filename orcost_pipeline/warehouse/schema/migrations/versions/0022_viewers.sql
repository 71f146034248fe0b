-- Logins of the database that see single companies. Spend of nobody is for no viewer.

create table ref.viewer (
    login text not null,
    company text not null references ref.company (company) on update cascade check (company <> 'Unattributed'),
    primary key (login, company)
);

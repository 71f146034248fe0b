delete from ref.viewer where login = {name};
insert into ref.viewer (login, company) select {name}, unnest({companies}::text[]);
grant orcost_viewer to {login}{option};

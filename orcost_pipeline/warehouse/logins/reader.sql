delete from ref.viewer where login = {name};
grant orcost_reader to {login}{option};

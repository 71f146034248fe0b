-- The roles that hold the rights. They are the server's: another database may have made them.
do $$
declare
    name text;
begin
    foreach name in array array['orcost_reader', 'orcost_viewer', 'orcost_may_sync'] loop
        if to_regrole(name) is null then
            execute format('create role %I', name);
        end if;
    end loop;
end $$;

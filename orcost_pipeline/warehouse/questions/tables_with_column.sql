select c.table_schema || '.' || c.table_name as name
from information_schema.columns c
join information_schema.tables t using (table_schema, table_name)
where t.table_type = 'BASE TABLE' and c.table_schema in ('raw', 'ref', 'core', 'marts', 'ops')
    and c.column_name = :column
order by 1

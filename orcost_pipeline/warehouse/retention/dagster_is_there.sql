-- Whether Dagster's storage is in this database.
select to_regclass('dagster.runs') is not null and to_regclass('dagster.asset_check_executions') is not null as is_there

-- Versions of unused foreign keys.
delete from core.api_key_version where key_id in (select key_id from unused_key)

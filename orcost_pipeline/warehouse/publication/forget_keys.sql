-- Unused foreign keys.
delete from core.api_key where key_id in (select key_id from unused_key)

-- Versions in which a revived key was deleted.
delete from core.api_key_version where is_deleted and key_id in (select key_id from revived_key)

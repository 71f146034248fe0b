-- Counter readings of unused foreign keys.
delete from core.counter_point where key_id in (select key_id from unused_key)

-- Begins the transaction in which pg_restore's script makes the schemas anew. Whoever reads keeps it from waiting for ever.
begin;
set local lock_timeout = '30s';
set local client_min_messages = 'warning';
drop schema if exists raw, ref, core, marts, viewer, ops, dagster cascade;

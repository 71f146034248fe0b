-- One row per API key (null: no key), span of UTC days and company that owns a share of it: filled by the assignment.
create temporary table owner (
    key_hash text, valid_from date, valid_to date, company text, share numeric, rule text
) on commit drop

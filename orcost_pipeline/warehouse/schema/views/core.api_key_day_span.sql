-- One row per API key and range of UTC days: the creator and workspace of the key on those days.

-- A version of a key holds from the UTC day on which it was first seen. A day has one version, its last; the first
-- version reaches back without limit, as mapping rules do.
create or replace view core.api_key_day_span as
select *
from (
    select v.key_id,
        case
            when row_number() over key = 1 then '-infinity'
            else (v.valid_from at time zone 'UTC')::date
        end as first_day,
        coalesce((lead(v.valid_from) over key at time zone 'UTC')::date, 'infinity') as end_day,
        coalesce(v.creator_email, v.creator_user_id) as creator,
        coalesce(v.workspace_name, v.workspace_id) as workspace,
        v.creator_email, v.workspace_name
    from core.api_key_version v
    window key as (partition by v.key_id order by v.valid_from)
) spans
where first_day < end_day;

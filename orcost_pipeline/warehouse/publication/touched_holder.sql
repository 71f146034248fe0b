-- One row per API key and span of UTC days that has another creator or workspace than before, or no longer has what it
-- had: new versions of keys, and whatever a rebuild or a wrong clock that was put right did to old ones.
create temporary table touched_holder on commit drop as
(select * from opened_holder except select * from core.api_key_day_span)
union all
(select * from core.api_key_day_span except select * from opened_holder)

select version, loaded_at, source, content_sha256, rule_count, rules_added, rules_removed, rules_changed, rules_moved
from ref.mapping_version
where loaded_at <= coalesce(cast(:at as timestamptz), 'infinity')
order by version desc
limit :most

-- A version of the mapping: from now on it is in force.
insert into ref.mapping_version (
    loaded_at, source, content_sha256, rule_count, rules_added, rules_removed, rules_changed, rules_moved
)
values (
    :loaded_at, :source, :content_sha256, :rule_count, :rules_added, :rules_removed, :rules_changed, :rules_moved
)
returning version

select count(*) as lines
from ref.mapping_rule
where account = :account and version = (select max(version) from ref.mapping_version)

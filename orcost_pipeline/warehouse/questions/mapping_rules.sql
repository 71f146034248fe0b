select line, position, company, match, pattern, account, valid_from, valid_to, share, note
from ref.mapping_rule
where version = :version
order by position, line

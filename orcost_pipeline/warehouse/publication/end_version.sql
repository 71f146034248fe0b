-- The current version of a key whose attributes changed ends now.
update core.api_key_version v
set valid_to = :as_of
from staged_api_key_version s
where v.key_id = s.key_id and v.valid_to is null

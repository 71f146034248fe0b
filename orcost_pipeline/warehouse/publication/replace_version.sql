-- A version that began at this very instant is replaced.
delete from core.api_key_version v
using staged_api_key_version s
where v.key_id = s.key_id and v.valid_from = :as_of

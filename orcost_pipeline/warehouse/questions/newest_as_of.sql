select max(as_of) as as_of
from raw.extracted
where account = :account and relation = :relation and as_of <= :until

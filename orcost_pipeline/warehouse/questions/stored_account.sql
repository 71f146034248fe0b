select account_id, kind, as_of, hours_from, full_pass_at, published_run_id, counted_from is not null as is_counted,
    rebuild_at is not null as is_rebuild_requested
from ref.account
where account = :account

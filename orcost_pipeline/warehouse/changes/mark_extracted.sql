-- A relation that a run read completely, or a mark of its extraction.
insert into raw.extracted
values (:extraction_id, :account, :relation, :as_of, :now, :row_count, :requests_made)
on conflict (run_id, account, relation) do update
    set as_of = excluded.as_of, completed_at = excluded.completed_at, row_count = excluded.row_count,
        requests_made = excluded.requests_made

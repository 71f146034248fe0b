-- A version of the price plans: from now on it is in force.
insert into ref.price_plan_version (loaded_at, source, content_sha256, row_count)
values (:loaded_at, :source, :content_sha256, :row_count)
returning version

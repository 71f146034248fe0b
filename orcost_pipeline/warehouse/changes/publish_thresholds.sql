-- The settings that views follow; returns what show_cost was, where anything differs.
update ref.threshold t
set key_limit_percent = :key_limit, budget_percent = :budget, show_cost = :show_cost
from ref.threshold before
where (t.key_limit_percent, t.budget_percent, t.show_cost) <> (:key_limit, :budget, :show_cost)
returning before.show_cost

"""Attribution: which company a key belongs to on a day, and why. No HTTP, no Postgres, no Dagster."""

"""Attribution: which company a key belongs to on a day, and why. Knows neither HTTP, nor Postgres, nor Dagster."""

"""OpenRouter's API: requests, typed answers, and the decision what to request. No Postgres, no Dagster."""

"""What OpenRouter says: requests, answers, and what to ask. Knows HTTP; neither Postgres nor Dagster."""

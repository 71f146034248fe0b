"""One account's sync, without Dagster: asking OpenRouter, storing what it reported, attribution, publication."""

"""One account's sync, without Dagster: reading OpenRouter, storing raw rows, attribution, publication."""

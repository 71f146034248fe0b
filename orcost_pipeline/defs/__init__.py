"""What Dagster runs: assets, checks, jobs, schedule, sensors. Here alone OpenRouter, companies and warehouse meet."""

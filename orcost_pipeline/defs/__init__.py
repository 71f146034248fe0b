"""What Dagster runs: assets, checks, jobs, schedule and sensors, over the steps of `sync/`."""

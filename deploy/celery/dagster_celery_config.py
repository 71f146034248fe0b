"""Settings of the workers, which dagster_celery.app reads by this module's name: its folder has to be on PYTHONPATH.

Addresses are not here: CELERY_BROKER_URL and CELERY_RESULT_BACKEND.
"""

# A message is gone when its run has ended, not when it begins. So a busy worker takes no second run while others are
# idle, and one that dies before its run has begun gives it back. Dagster ignores a run handed out after it has begun.
task_acks_late = True
worker_prefetch_multiplier = 1
# Each run has a process of its own, as everywhere else: it reads orcost.toml and .env anew, and leaves no memory.
worker_max_tasks_per_child = 1
# Loaded once by the worker, from which those processes are forked: a third less CPU for a run. Not the definitions,
# which read the settings.
imports = ("dagster_postgres", "orcost_pipeline.defs.alerts", "orcost_pipeline.defs.sync_requests")
# RabbitMQ may start after its workers, and be restarted.
broker_connection_retry_on_startup = True
# The tables with what became of each run, which run monitoring reads: beside Dagster's own. As in dagster.yaml.
database_table_schemas = {"task": "dagster", "group": "dagster"}

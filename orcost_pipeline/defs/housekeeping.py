"""The sensor that removes what is older than `[retention]` keeps it."""

from datetime import timedelta

import dagster as dg

from orcost_pipeline.defs.automation import served_elsewhere
from orcost_pipeline.defs.resources import Surroundings, opened_warehouse
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.retention.purge import purge

# Dagster gives a sensor a minute, and other sensors wait for its thread.
LONGEST_LOOK = timedelta(seconds=20)


@dg.sensor(
    minimum_interval_seconds=3600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={"orcost", "orcost_surroundings"},
    description="Deletes data older than the [retention] settings in orcost.toml, once an hour: rows of raw, requests "
    "and runs of syncs, resolved alerts, and Dagster's finished runs with their events. Costs are kept for good.",
)
def housekeeping_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    settings: Settings = context.resources.orcost
    if skipped := served_elsewhere(settings):
        return skipped
    around: Surroundings = context.resources.orcost_surroundings
    now = around.clock()
    with opened_warehouse(settings) as engine:
        purged = purge(engine, settings.retention, now, lambda: around.clock() - now > LONGEST_LOOK)
    return dg.SkipReason(str(purged))

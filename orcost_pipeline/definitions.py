"""The definitions that Dagster loads. Besides the CLI, only this module reads the settings: partitions are accounts."""

from collections.abc import Sequence

import dagster as dg

from orcost_pipeline.defs import (
    alerts,
    automation,
    companies,
    dashboards,
    extract,
    housekeeping,
    publish,
    sync_requests,
)
from orcost_pipeline.defs.placement import Placement, relation_of
from orcost_pipeline.defs.resources import SURROUNDINGS, Surroundings, SyncWindow, deployment, orcost_warehouse
from orcost_pipeline.settings import Settings, load_settings


def build_defs(
    settings: Settings | None = None,
    *,
    key_prefix: str | Sequence[str] = (),
    owners: Sequence[str] = ("team:finops",),
    schedule: str | None = automation.EVERY_HOUR,
    surroundings: Surroundings = SURROUNDINGS,
) -> dg.Definitions:
    """Everything that syncs the accounts, to be loaded by itself or merged into a code location of your own.

    settings: by default those of the folder and the environment.
    key_prefix: precedes the schema in the key of every asset. owners: e-mails or `team:` names.
    schedule: cron expression (UTC) for the sync of every account; None if you schedule it yourself.
    surroundings: the clock and the connection, for tests.

    All assets but the mapping, which accounts share, are partitioned by account. Raises PermanentError for wrong
    settings.
    """
    given = settings
    settings = given or load_settings()
    place = Placement(
        dg.StaticPartitionsDefinition([account.name for account in settings.accounts]),
        (key_prefix,) if isinstance(key_prefix, str) else tuple(key_prefix),
        tuple(owners),
    )
    assets = [*extract.assets(place), *companies.assets(place), *publish.assets(place)]
    relations = [relation_of(key) for asset in assets for key in asset.keys]
    return dg.Definitions(
        assets=[*assets, *dashboards.assets(place)],
        jobs=automation.jobs(place, relations),
        schedules=[automation.hourly_schedule(schedule)] if schedule else [],
        sensors=[
            sync_requests.sync_request_sensor,
            automation.mapping_change_sensor,
            alerts.alert_sensor(lambda: given or load_settings()),
            housekeeping.housekeeping_sensor,
        ],
        resources={
            "orcost": deployment(settings),
            "orcost_surroundings": dg.ResourceDefinition.hardcoded_resource(
                surroundings, "The clock, the connection to OpenRouter, and how to wait."
            ),
            "orcost_warehouse": orcost_warehouse,
            "orcost_window": SyncWindow(),
        },
    )


# Assets launched by hand also run in one process.
defs = dg.Definitions.merge(build_defs(), dg.Definitions(executor=dg.in_process_executor))

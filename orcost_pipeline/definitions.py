"""What Dagster loads. With the CLI, the only reader of the environment: partitions need the accounts."""

import dagster as dg

from orcost_pipeline.defs import automation, companies, extract, publish
from orcost_pipeline.defs.resources import SyncWindow, warehouse
from orcost_pipeline.settings import Settings, load_settings


def build(settings: Settings) -> dg.Definitions:
    """The definitions for these accounts; all but the mapping, which accounts share, is partitioned."""
    accounts = dg.StaticPartitionsDefinition([account.name for account in settings.accounts])
    loaded = dg.load_assets_from_modules([extract, companies, publish])
    assets = dg.map_asset_specs(
        lambda spec: spec.replace_attributes(
            owners=["team:finops"], partitions_def=None if spec.key == companies.MAPPING_KEY else accounts
        ),
        [asset for asset in loaded if isinstance(asset, dg.AssetsDefinition)],
    )
    return dg.Definitions(
        assets=assets,
        jobs=[automation.hourly_sync, automation.reattribute, automation.company_mapping_job],
        schedules=[automation.hourly_schedule],
        sensors=[automation.sync_request_sensor, automation.mapping_change_sensor],
        resources={
            "settings": dg.ResourceDefinition.hardcoded_resource(settings, "Accounts, folders, addresses."),
            "warehouse": warehouse,
            "window": SyncWindow(),
        },
        executor=dg.in_process_executor,
    )


defs = build(load_settings())

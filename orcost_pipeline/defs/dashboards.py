"""The dashboards over the marts, as external assets: lineage ends where people look."""

import dagster as dg

from orcost_pipeline.defs.placement import Placement

GROUP = "dashboards"
# dashboard → the published relations that it reads
_READS = {
    "superset": [
        "marts.spend_daily",
        "marts.reconciliation_daily",
        "marts.company_charge_daily",
        "marts.company_charge_monthly",
    ]
}


def assets(place: Placement) -> list[dg.AssetSpec]:
    """One spec per dashboard; no run makes them."""
    return [
        dg.AssetSpec(
            dg.AssetKey([*place.prefix, GROUP, dashboard]),
            deps=[place.key(relation) for relation in relations],
            group_name=GROUP,
            kinds={dashboard},
            owners=list(place.owners),
            description="What each company cost and is charged, on what, and whether it adds up, for people without "
            "SQL. `orcost dashboard pack` writes what Superset imports.",
        )
        for dashboard, relations in _READS.items()
    ]

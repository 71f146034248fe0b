"""Where the assets stand in a code location, which may be somebody else's: their keys, owners and partitions."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from orcost_pipeline.warehouse.schema.relations import RELATIONS

MAPPING = "ref.company_mapping"
# The versions of the mapping are two relations; what a row of the asset is stands in this one.
_TABLES = {MAPPING: "ref.mapping_rule"}


@dataclass(frozen=True)
class Placement:
    """accounts: the partitions of all assets but the mapping, which accounts share."""

    accounts: dg.PartitionsDefinition
    prefix: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    def key(self, relation: str) -> dg.AssetKey:
        return dg.AssetKey([*self.prefix, *relation.split(".")])

    def partitions(self, relation: str) -> dg.PartitionsDefinition | None:
        return None if relation == MAPPING else self.accounts

    def spec(
        self,
        relation: str,
        deps: Iterable[str],
        kinds: set[str],
        description: str | None = None,
        freshness_policy: dg.FreshnessPolicy | None = None,
    ) -> dg.AssetSpec:
        """An asset in the group of its schema; its description is that of the relation unless it has one."""
        table = _TABLES.get(relation, relation)
        return dg.AssetSpec(
            self.key(relation),
            deps=[self.key(dep) for dep in deps],
            group_name=relation.split(".")[0],
            kinds=kinds,
            owners=list(self.owners),
            partitions_def=self.partitions(relation),
            description=description or RELATIONS[table],
            freshness_policy=freshness_policy,
            metadata={"dagster/table_name": table},
        )

    def check(self, name: str, relation: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
        """A check whose verdict Dagster keeps for each account; of the mapping, for all."""
        with warnings.catch_warnings():
            # Partitions of checks may still change in Dagster; without them one account's verdict hides another's.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.AssetCheckSpec(
                name,
                asset=self.key(relation),
                description=description,
                blocking=blocking,
                partitions_def=self.partitions(relation),
            )


def relation_of(key: dg.AssetKey) -> str:
    """The relation that an asset is, whatever the prefix of its key."""
    return ".".join(key.path[-2:])

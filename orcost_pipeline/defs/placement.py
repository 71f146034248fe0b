"""How the assets are placed in a code location, possibly a user's own: keys, owners and partitions."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from orcost_pipeline.warehouse.schema.declared import declared_schema

MAPPING = "ref.company_mapping"
# Versions of the mapping are stored in two relations; the rows of the asset are in this one.
_TABLES = {MAPPING: "ref.mapping_rule"}


@dataclass(frozen=True)
class Placement:
    """`accounts` are the partitions of all assets but the mapping, which accounts share; `prefix` starts asset keys."""

    accounts: dg.PartitionsDefinition
    prefix: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    def key(self, relation: str) -> dg.AssetKey:
        """The asset key of a relation, such as `ref.api_key`."""
        return dg.AssetKey([*self.prefix, *relation.split(".")])

    def partitions(self, relation: str) -> dg.PartitionsDefinition | None:
        """The accounts; None for the mapping."""
        return None if relation == MAPPING else self.accounts

    def spec(
        self,
        relation: str,
        deps: Iterable[str],
        kinds: set[str],
        description: str | None = None,
        freshness_policy: dg.FreshnessPolicy | None = None,
    ) -> dg.AssetSpec:
        """The spec of an asset, in the group of its schema; by default its description is that of the relation."""
        table = _TABLES.get(relation, relation)
        return dg.AssetSpec(
            self.key(relation),
            deps=[self.key(dep) for dep in deps],
            group_name=relation.split(".")[0],
            kinds=kinds,
            owners=list(self.owners),
            partitions_def=self.partitions(relation),
            description=description or declared_schema().comments.relations[table],
            freshness_policy=freshness_policy,
            metadata={"dagster/table_name": table},
        )

    def check(self, name: str, relation: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
        """The spec of a check, partitioned like its asset, so that Dagster keeps a result per account."""
        with warnings.catch_warnings():
            # Partitioned checks are a preview in Dagster; without them one account's result hides another's.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.AssetCheckSpec(
                name,
                asset=self.key(relation),
                description=description,
                blocking=blocking,
                partitions_def=self.partitions(relation),
            )


def relation_of(key: dg.AssetKey) -> str:
    """The relation of an asset, whatever the prefix of its key."""
    return ".".join(key.path[-2:])

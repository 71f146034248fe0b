"""What a row of each relation is and what each function is for: for Dagster and docs/tables.md."""

from orcost_pipeline.warehouse.schema.declared import declared_schema

RELATIONS = declared_schema().comments.relations
FUNCTIONS = declared_schema().comments.functions

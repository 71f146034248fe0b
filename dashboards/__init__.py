"""The dashboards that `orcost dashboard pack` packs, and the proof that they show what the warehouse holds."""

"""Hourly OpenRouter cost per company in your own Postgres, reconciled to each account's total.

Layers point down only: errors, measures, windows, settings → openrouter | companies | warehouse | simulator
(siblings, strangers to each other) → defs → definitions, cli.
"""

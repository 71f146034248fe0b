"""OpenRouter usage → company-attributed cost tables in Postgres, every hour, closed to the account's total.

Layers point down only: errors, measures, windows, settings → openrouter | companies | warehouse | simulator
(siblings, strangers to each other) → defs → definitions, cli.
"""

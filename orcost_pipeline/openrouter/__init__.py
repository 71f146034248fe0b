"""One account's usage from OpenRouter: what to read, by hour and by day, and how the keys explain it.

`api/` speaks HTTP. The modules here decide what to ask: `usage.py` as a whole, `usage_by_key.py` and `key_questions.py`
by analytics, `days.py` by activity, for the keys of `account_keys.py`; `reading.py` has the records of a reading. No
Postgres, no Dagster.
"""

"""OpenRouter's HTTP API: a client with one method per endpoint, its requests, and typed rows of its responses.

From the key to a method: `connection.py` → `requests.py` (retry, rate limit, errors) → `row_reader.py`, `paging.py` and
`analytics.py` (complete rows) → `client.py`. What stays out: which usage to read, and what it means (`openrouter/`).
"""

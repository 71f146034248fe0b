"""Imports the Superset dashboard into a real Superset, opens it in a real browser, and compares every figure.

`python -m dashboards.proof`, or `make dashboard`. Superset and Playwright live in an environment of their own.
"""

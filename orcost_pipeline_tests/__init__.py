"""Tests of what users lose sleep over, on a real Postgres and a real Dagster instance."""

"""Findings sent to people: which become alerts, their text, and the receivers. Stays out: the findings (`health/`)."""

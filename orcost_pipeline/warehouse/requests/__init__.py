"""Requests for a sync: which of them one run serves, and how far they are."""

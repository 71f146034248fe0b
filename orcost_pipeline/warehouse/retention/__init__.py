"""Deletion of data that is kept for a limited time. Costs, and the data they follow from, are kept for good."""

"""Dashboards over the warehouse, as files that BI tools import, and how they are packed.

What belongs here: the files, one folder for each tool. What stays out: asking the warehouse anything.
"""

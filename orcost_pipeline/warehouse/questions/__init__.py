"""Reads of the warehouse: one `.sql` file per question, one module per subject, each function returning typed rows.

What belongs here: everything that commands, findings, the mapping and a sync read. What stays out: writes, how rows are
rendered, and what they mean for a company. Amounts are exact USD (`numeric`), times are UTC; an `account` of None means
all accounts. Rows that a command prints as they are come as `Rows`, with the columns of the question; all others are
named tuples, and building one raises TypeError where the question's columns differ from its fields.
"""

"""What is asked of the warehouse: a question in, rows out; one `.sql` file a question, one module a reader.

Belongs here: reading, for commands, findings, the mapping and a sync. Stays out: writing, how rows look, and what they
mean for a company. Amounts are exact USD as `numeric`, times are UTC, an `account` of None means all accounts. What a
command prints as it is comes as `Rows`; everything else as typed rows, which fail at once where a column is missing.
"""

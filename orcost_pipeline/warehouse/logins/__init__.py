"""Logins of the database that only read: readers of everything, viewers of single companies.

What belongs here: the roles that hold the rights, and making a login a member of one. What stays out: which rights that
are (`questions/differing_rights.sql`), the rows that a viewer sees (`schema/views/viewer.*.sql`).
"""

"""A year of hours in miniature: a real `orcost up` under one random fault after the other, and its books at the end.

`deployment` has the services, their clock and what is spent; `faults` what happens to them; `verdict` what must hold.
"""

"""Alerts in the warehouse: which findings were sent to whom. Stays out: findings (`health/`), sending (`alerts/`)."""

"""Alerts in the warehouse: which findings were told to whom. Stays out: findings (`health/`) and sending (`alerts/`)."""

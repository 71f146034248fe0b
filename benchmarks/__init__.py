"""Measurements that claims stand on: `make bench` runs them all, each as a ratio to something run beside it."""

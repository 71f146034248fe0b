"""What of a sync with a wrong clock is not believed (`good_sync.py`), and how the next good one puts it right."""

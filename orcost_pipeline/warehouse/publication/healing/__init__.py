"""How a publication puts right what a sync with a wrong clock left in the future of the last good one."""

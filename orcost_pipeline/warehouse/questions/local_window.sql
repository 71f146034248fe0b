select start_at, end_at
from core.local_window(:time_zone, :first, :last, :account)

-- The newest extraction of each account: its clock, unless it is ahead of ours.
select account, least(max(as_of), :now) as as_of
from raw.extraction
group by account

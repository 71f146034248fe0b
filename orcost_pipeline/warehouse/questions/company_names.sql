select company
from ref.company
order by company

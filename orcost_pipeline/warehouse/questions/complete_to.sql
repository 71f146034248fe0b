select account, as_of
from ref.account

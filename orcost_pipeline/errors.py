"""Errors named by their consequence.

`PermanentError`: running again cannot help, a person must act. `TransientError`: running again may help.
`ContractError`: an answer or a table is not as promised; nothing is published. Each message says what was tried, for
which account, and what to do next; it never contains a secret.
"""

from datetime import datetime
from typing import Self


class OrcostError(Exception):
    """Anything this pipeline raises on purpose."""


class PermanentError(OrcostError):
    """Running again cannot help: a person must act first."""


class TransientError(OrcostError):
    """Running again may help."""


class ContractError(OrcostError):
    """An answer or a table is not what it promised to be; nothing was published."""


class ClockError(PermanentError):
    """This machine's clock differs from the server's, so that rows would be stored under a wrong time."""

    @classmethod
    def off(cls, here: datetime, there: datetime) -> Self:
        """The error for a clock that is wrong now: `here` is this machine's time, `there` the server's, both UTC."""
        which = "ahead of" if here > there else "behind"
        times = f"{here:%Y-%m-%d %H:%M:%S} UTC here, {there:%Y-%m-%d %H:%M:%S} UTC there"
        todo = "Set it by NTP, such as: timedatectl set-ntp true; then try again."
        return cls(f"This machine's clock is {which} OpenRouter's: {times}. Nothing was stored.\n{todo}")

    @classmethod
    def was_ahead(cls, began: datetime, now: datetime) -> Self:
        """The error for a sync that began (`began`) in the future of the correct clock (`now`), both UTC."""
        times = f"({began:%Y-%m-%d %H:%M:%S} UTC); it is now {now:%Y-%m-%d %H:%M:%S} UTC and correct"
        return cls(f"This machine's clock was ahead when the sync began {times}.\nSync again: orcost sync")


class InvalidKeyError(PermanentError):
    """OpenRouter refused the key (401)."""


class ForbiddenError(PermanentError):
    """The key is valid, but not for this question (403)."""


class OtherAccountError(PermanentError):
    """The key belongs to another OpenRouter account than the one stored under the account's name."""


class AccountTwiceError(PermanentError):
    """Another account has the same API keys already: every cost would count twice."""

"""Errors named by their consequence.

`PermanentError`: running again cannot help, a person must act. `TransientError`: running again may help.
`ContractError`: the other side broke its word; nothing is published. Each message says what was tried, for which
account, and what the reader does next; it never holds a secret.
"""


class OrcostError(Exception):
    """Anything this pipeline raises on purpose."""


class PermanentError(OrcostError):
    """Running again cannot help: a person must act first."""


class TransientError(OrcostError):
    """Running again may help."""


class ContractError(OrcostError):
    """An answer or a table is not what it promised to be; nothing was published."""


class InvalidKeyError(PermanentError):
    """OpenRouter refused the key (401)."""


class ForbiddenError(PermanentError):
    """The key is valid, but not for this question (403)."""


class OtherAccountError(PermanentError):
    """The key is of another OpenRouter account than the one that is stored under the account's name."""


class AccountTwiceError(PermanentError):
    """Another account has the same API keys already: every cost would count twice."""

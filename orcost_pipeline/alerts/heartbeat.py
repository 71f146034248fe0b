"""ORCOST_HEARTBEAT_URL: fetched after each published sync, so that a monitor outside notices when syncs stop."""

import logging
from urllib.parse import quote

import httpx
from pydantic import SecretStr

# It would log the URL of each request.
logging.getLogger("httpx").setLevel(logging.WARNING)

HEARTBEAT_WITHIN = 5.0  # seconds


def beat(url: SecretStr | None, account: str) -> str | None:
    """Fetches the URL, if there is one, with `{account}` in it replaced by the account's name; returns why that failed,
    None where it did not.

    Never raises, and never names the URL, which may hold a secret.
    """
    if url is None:
        return None
    address = url.get_secret_value().replace("{account}", quote(account, safe=""))
    try:
        reply = httpx.get(address, timeout=HEARTBEAT_WITHIN, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"The heartbeat was not received ({type(error).__name__})."
    return None if reply.is_success else f"The heartbeat was refused (HTTP {reply.status_code})."

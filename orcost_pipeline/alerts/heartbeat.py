"""ORCOST_HEARTBEAT_URL: fetched after each published sync, so that somebody outside notices when syncs stop."""

from urllib.parse import quote

import httpx

HEARTBEAT_WITHIN = 5.0  # seconds


def beat(url: str, account: str) -> str | None:
    """Fetches the URL, with `{account}` in it replaced by the account's name; returns why that failed, None if not.

    Never raises, and never names the URL, which may hold a secret.
    """
    try:
        reply = httpx.get(
            url.replace("{account}", quote(account, safe="")), timeout=HEARTBEAT_WITHIN, follow_redirects=True
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"The heartbeat was not received ({type(error).__name__})."
    return None if reply.is_success else f"The heartbeat was refused (HTTP {reply.status_code})."

"""The connection to OpenRouter: which address the key may be sent to, and the HTTP client that sends it."""

import ipaddress
import re
import ssl
from contextlib import suppress
from functools import cache

import httpx

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import LONGEST_VALUE, short

CONNECT_TIMEOUT = 10.0  # seconds
CHECK_ADDRESS = "Check OPENROUTER_BASE_URL, or base_url in orcost.toml."


def checked_url(base_url: str, account: str) -> httpx.URL:
    """The API's address. Raises PermanentError for an invalid URL, and for http:// to another machine: the key would
    travel unencrypted."""
    try:
        url = httpx.URL(base_url.rstrip("/") + "/")
        # A name that DNS cannot carry would fail only during the request, and not as a network error.
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    # httpx would send the URL's user name instead of the key.
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        shown = short(repr(re.sub(r"sk-or-[\w-]+|//\S*@", "…", base_url)), LONGEST_VALUE)
        what = f'The base URL of account "{account}" is not a valid http(s) URL: {shown}'
        raise PermanentError(f"{what}. {CHECK_ADDRESS}")
    if url.scheme == "http" and not is_this_machine(url.host):
        raise PermanentError(
            f'The key of account "{account}" was not sent: http://{short(url.host, LONGEST_VALUE)} is not '
            f"encrypted, and whoever is on the way could read it. Use https://. {CHECK_ADDRESS}"
        )
    return url


def open_connection(
    base_url: httpx.URL, secret: str, timeout: float, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    """An HTTP client that sends the secret to that address only; `timeout` is in seconds per request.

    Raises PermanentError where the proxy or certificate settings of the environment cannot be used.
    """
    headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json"}
    try:
        return httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout)),
            transport=transport,
            verify=certificates(),
            # A proxy cannot reach this machine's own ports, where the simulated account of the demo listens.
            mounts={f"all://{base_url.netloc.decode()}": None} if is_this_machine(base_url.host) else None,
        )
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise PermanentError(
            f"The network settings of the environment cannot be used ({type(error).__name__}). "
            "Check HTTPS_PROXY, ALL_PROXY (http:// and https:// proxies only), SSL_CERT_FILE and SSL_CERT_DIR."
        ) from None


@cache
def certificates() -> ssl.SSLContext:
    """The trusted certificates, as httpx finds them. Read once: that takes 40 ms, and a sync has ten clients."""
    return httpx.create_ssl_context()


def is_this_machine(host: str) -> bool:
    """Whether the host is a loopback address, or `localhost`."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"

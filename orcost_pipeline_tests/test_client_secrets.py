"""The key is in no message, log, repr or URL."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest

from orcost_pipeline.errors import InvalidKeyError, OrcostError, PermanentError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.windows import Window
from orcost_pipeline_tests.client_world import BY_KEY, KEY_HASH, assert_no_secret
from orcost_pipeline_tests.virtual_time import CANARY, HOUR, NOON, answer, refusal, scripted, text_answer

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


def asks_everything(client: OpenRouter) -> Awaitable[list[Any]]:
    hour = NOON.replace(minute=0)
    questions = [client.key(), client.credits(), client.models(), client.workspaces(), client.members()]
    questions += [client.api_keys(["w"]), client.api_key(KEY_HASH), client.activity(), client.activity(KEY_HASH)]
    questions += [client.usage(Window(hour - HOUR, hour), BY_KEY, [KEY_HASH])]
    return asyncio.gather(*questions, return_exceptions=True)


ECHOES = [refusal(status, f"the key {CANARY} may not") for status in (302, 400, 401, 402, 403, 404, 408, 413, 429, 500)]


SUFFERINGS = [
    *ECHOES,
    httpx.Response(502, content=f"<html>Authorization: Bearer {CANARY}</html>"),
    httpx.Response(200, content=f"<html>Authorization: Bearer {CANARY}</html>"),
    text_answer(f'{{"data": "{CANARY}"}}'),
    text_answer(f'{{"data": ["{CANARY}"]}}'),
    text_answer(f'{{"data": {{"label": ["{CANARY}"], "usage": "{CANARY}"}}}}'),
    httpx.ConnectError(f"Bearer {CANARY}"),
    httpx.ReadTimeout(f"Bearer {CANARY}"),
    httpx.LocalProtocolError(f"Illegal header value b'Bearer {CANARY}'"),
    httpx.ProxyError(f"502 Bearer {CANARY}"),
    refusal(400, f"{CANARY[:20]}\0{CANARY[20:]}"),
    httpx.Response(302, headers={"Location": f"https://elsewhere.example/{CANARY}"}),
    httpx.Response(302, headers={"Location": f"https://{CANARY}@elsewhere.example/"}),
    httpx.Response(302, headers={"Location": f"https://{CANARY}.example/"}),
]


@pytest.mark.parametrize("suffering", SUFFERINGS, ids=lambda s: getattr(s, "status_code", type(s).__name__))
def test_the_key_is_in_no_message_no_log_no_repr_and_no_url(
    suffering: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    api = scripted(suffering)
    told = api.ask(asks_everything, backoff=0.001)
    errors = [error for error in told if isinstance(error, BaseException)]
    assert errors
    assert all(isinstance(error, OrcostError) for error in errors)
    for error in errors:
        assert_no_secret("".join(traceback.format_exception(error)) + repr(error))
    assert_no_secret("".join(record.getMessage() for record in caplog.records) + "".join(capsys.readouterr()))
    assert_no_secret("".join(str(request.url) for _, request in api.sent))
    assert {request.headers["Authorization"] for _, request in api.sent} == {f"Bearer {CANARY}"}


def test_a_key_is_redacted_before_a_message_is_cut_short() -> None:
    """Cut first, a key across the cut would lose its end, be no longer known, and be shown."""
    for length in range(120, 200, 7):
        api = scripted(refusal(400, "x" * length + CANARY))
        with pytest.raises(PermanentError) as caught:
            api.ask(lambda client: client.credits())
        assert_no_secret(str(caught.value))
        assert CANARY[:24] not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_a_client_shows_its_account_and_not_its_key() -> None:
    api = scripted(answer({"data": {}}))

    async def shown(client: OpenRouter) -> str:
        return f"{client!r} {client}"

    assert api.ask(shown) == 'OpenRouter(account="acme") OpenRouter(account="acme")'.replace('"', "'")


def test_a_short_key_is_not_shown_by_its_last_letters() -> None:
    api = scripted(refusal(401))
    api.secret = "sk-short"
    with pytest.raises(InvalidKeyError) as caught:
        api.ask(lambda client: client.key())
    assert "hort" not in str(caught.value)

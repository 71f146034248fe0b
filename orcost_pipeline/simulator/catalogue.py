"""Models as `/models` lists them, and what they charge: names and prices only, no usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `permaslug` is what analytics calls it, `slug` what users type; prices are USD per token.

    `outputs` are its output modalities, `more_prices` what its price has besides prompt and completion.
    """

    permaslug: str
    slug: str
    name: str
    provider: str
    prompt_usd: Decimal
    completion_usd: Decimal
    context_length: int = 128_000
    created: int = 1_744_651_200
    outputs: tuple[str, ...] = ("text",)
    more_prices: Mapping[str, Any] = field(default_factory=dict)


def _model(permaslug: str, slug: str, name: str, provider: str, prompt: str, completion: str, **more: Any) -> Model:
    return Model(permaslug, slug, name, provider, Decimal(prompt), Decimal(completion), **more)


GPT = "openai/gpt-4.1-2025-04-14"
GPT_MINI = "openai/gpt-4.1-mini-2025-04-14"
CLAUDE = "anthropic/claude-4-sonnet-20250522"
GEMINI = "google/gemini-2.5-flash"
DEEPSEEK = "deepseek/deepseek-chat-v3-0324"
MISTRAL = "mistralai/mistral-large-2411"
FLUX = "black-forest-labs/flux.2-pro"
LLAMA_FREE = "meta-llama/llama-3.3-70b-instruct:free"

MODELS = (
    _model(GPT, "openai/gpt-4.1", "OpenAI: GPT-4.1", "OpenAI", "0.000002", "0.000008"),
    _model(GPT_MINI, "openai/gpt-4.1-mini", "OpenAI: GPT-4.1 Mini", "OpenAI", "0.0000004", "0.0000016"),
    _model(
        CLAUDE,
        "anthropic/claude-sonnet-4",
        "Anthropic: Claude Sonnet 4",
        "Anthropic",
        "0.000003",
        "0.000015",
        more_prices={
            "input_cache_read": "0.0000003",
            "input_cache_write": "0.00000375",
            "input_cache_write_1h": "0.000006",
            "discount": Decimal("0.1"),
            "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}],
        },
    ),
    _model(GEMINI, "google/gemini-2.5-flash", "Google: Gemini 2.5 Flash", "Google", "0.0000003", "0.0000025"),
    _model(DEEPSEEK, "deepseek/deepseek-chat-v3-0324", "DeepSeek V3 0324", "DeepInfra", "0.0000002", "0.0000008"),
    _model(MISTRAL, "mistralai/mistral-large-2411", "Mistral Large 2411", "Mistral", "0.000002", "0.000006"),
    _model(
        FLUX,
        FLUX,
        "Black Forest Labs: FLUX.2 Pro",
        "Black Forest Labs",
        "0",
        "0",
        outputs=("image",),
        more_prices={"image": "0.015", "image_output": "0.03"},
    ),
    _model(LLAMA_FREE, LLAMA_FREE, "Meta: Llama 3.3 70B Instruct (free)", "Venice", "0", "0"),
)

"""Models as `/models` lists them, and what they charge: names and prices only, no usage."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `permaslug` is what analytics calls it, `slug` what users type; prices are USD per token."""

    permaslug: str
    slug: str
    name: str
    provider: str
    prompt_usd: Decimal
    completion_usd: Decimal
    context_length: int = 128_000
    created: int = 1_744_651_200


def _model(permaslug: str, slug: str, name: str, provider: str, prompt: str, completion: str) -> Model:
    return Model(permaslug, slug, name, provider, Decimal(prompt), Decimal(completion))


GPT = "openai/gpt-4.1-2025-04-14"
GPT_MINI = "openai/gpt-4.1-mini-2025-04-14"
CLAUDE = "anthropic/claude-4-sonnet-20250522"
GEMINI = "google/gemini-2.5-flash"
DEEPSEEK = "deepseek/deepseek-chat-v3-0324"
MISTRAL = "mistralai/mistral-large-2411"
LLAMA_FREE = "meta-llama/llama-3.3-70b-instruct:free"

MODELS = (
    _model(GPT, "openai/gpt-4.1", "OpenAI: GPT-4.1", "OpenAI", "0.000002", "0.000008"),
    _model(GPT_MINI, "openai/gpt-4.1-mini", "OpenAI: GPT-4.1 Mini", "OpenAI", "0.0000004", "0.0000016"),
    _model(CLAUDE, "anthropic/claude-sonnet-4", "Anthropic: Claude Sonnet 4", "Anthropic", "0.000003", "0.000015"),
    _model(GEMINI, "google/gemini-2.5-flash", "Google: Gemini 2.5 Flash", "Google", "0.0000003", "0.0000025"),
    _model(DEEPSEEK, "deepseek/deepseek-chat-v3-0324", "DeepSeek V3 0324", "DeepInfra", "0.0000002", "0.0000008"),
    _model(MISTRAL, "mistralai/mistral-large-2411", "Mistral Large 2411", "Mistral", "0.000002", "0.000006"),
    _model(LLAMA_FREE, LLAMA_FREE, "Meta: Llama 3.3 70B Instruct (free)", "Venice", "0", "0"),
)

"""The endpoints that list what there is: keys, workspaces, members, models, credits. No usage by time."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orcost_pipeline.simulator.catalogue import Model
from orcost_pipeline.simulator.ledger import ApiKey, Counters, Ledger, Workspace
from orcost_pipeline.simulator.options import Options
from orcost_pipeline.simulator.wire import ApiError, Call, instant_text

Json = dict[str, Any]
KEYS_PER_PAGE = 100
EPOCH = "2025-01-01T00:00:00.000Z"


def current_key(call: Call) -> Json:
    """GET /key, for either kind of key."""
    label = call.key.label if call.key else f"{call.account.management_key[:12]}...{call.account.management_key[-4:]}"
    return {"data": {"label": label, **_rights(call), **_session(call)}}


def list_keys(call: Call) -> Json:
    """GET /keys: 100 a page, one workspace, without the disabled and expired unless asked for."""
    if "include_expired" in call.params and not call.options.has_include_expired:
        raise ApiError(400, "Invalid request parameters: Unrecognized key: include_expired")
    offset = call.whole("offset", 0, 0)
    workspace_id = call.params.get("workspace_id") or call.account.default_workspace.id
    if call.account.workspace(workspace_id) is None:
        raise ApiError(404, "Workspace not found")
    if workspace_id in call.options.refused_workspaces:
        _refuse(call.options.refused_status)
    keys = [
        key for key in call.account.living_keys(call.now) if key.workspace_id == workspace_id and _wanted(call, key)
    ]
    return {"data": [_key_row(call, key) for key in keys[offset : offset + KEYS_PER_PAGE]]}


def one_key(call: Call, key_hash: str) -> Json:
    """GET /keys/{hash}: 404 proves a deletion."""
    key = call.account.key_at(key_hash, call.now)
    if key is None or key.deleted_at is not None:
        raise ApiError(404, "API key not found")
    if key.workspace_id in call.options.refused_workspaces:
        _refuse(call.options.refused_key_status)
    return {"data": _key_row(call, key)}


def list_workspaces(call: Call) -> Json:
    """GET /workspaces."""
    _refuse(call.options.workspaces_status)
    return _paged(call, [_workspace_row(workspace) for workspace in call.account.workspaces])


def list_members(call: Call) -> Json:
    """GET /organization/members: 404 for a personal account."""
    if call.options.is_personal:
        raise ApiError(404, "Organization not found")
    _refuse(call.options.members_status)
    fields = ("id", "email", "first_name", "last_name", "role")
    return _paged(call, [{name: getattr(member, name) for name in fields} for member in call.account.members])


def list_budgets(call: Call, workspace: str) -> Json:
    """GET /workspaces/{id or slug}/budgets: Enterprise only, and this account is not."""
    if not any(workspace in (known.id, known.slug) for known in call.account.workspaces):
        raise ApiError(404, "Resource not found")
    raise ApiError(call.options.budgets_status, "Workspace budgets are available on Enterprise plans only")


def account_credits(call: Call) -> Json:
    """GET /credits: USD bought and used, ever."""
    _refuse(call.options.credits_status)
    used = call.ledger.credits_used(call.account.name, call.now)
    return {"data": {"total_credits": call.account.credits_bought, "total_usage": used}}


def list_models(ledger: Ledger, options: Options, params: Mapping[str, str]) -> Json:
    """GET /models: needs no key, and lists models that make text alone unless told otherwise."""
    _refuse(options.models_status)
    told = params.get("output_modalities", "text")
    if told != "text" and not options.has_output_modalities:
        raise ApiError(400, "Invalid request parameters: Unrecognized key: output_modalities")
    wanted = told.split(",")
    is_wanted = [told == "all" or any(it in model.outputs for it in wanted) for model in ledger.models.values()]
    rows = [_model_row(model) for model, is_told in zip(ledger.models.values(), is_wanted, strict=True) if is_told]
    return {"data": rows, "links": {"next": None}, "total_count": len(rows)}


def _refuse(status: int | None) -> None:
    """`ApiError` of this status; None refuses nothing."""
    if status is not None:
        raise ApiError(status, "You do not have access to this resource")


def _paged(call: Call, rows: list[Json]) -> Json:
    offset, limit = call.whole("offset", 0, 0), call.whole("limit", 50, 1, 100)
    return {"data": rows[offset : offset + limit], "total_count": len(rows) + call.options.untold_rows}


def _wanted(call: Call, key: ApiKey) -> bool:
    expired = key.expires_at is not None and key.expires_at <= call.now
    hides_expired = call.options.has_include_expired and call.params.get("include_expired") != "true"
    hides_disabled = call.params.get("include_disabled") != "true"
    return not (expired and hides_expired) and not (key.disabled and hides_disabled)


def _key_row(call: Call, key: ApiKey) -> Json:
    counters = call.ledger.counters(call.account.name, key.hash, call.now)
    row = {
        "hash": key.hash,
        "name": key.name,
        "label": key.label,
        "disabled": key.disabled,
        "workspace_id": key.workspace_id,
        "creator_user_id": key.creator_user_id,
        "created_at": instant_text(key.created_at),
        "updated_at": instant_text(key.updated_at),
        "expires_at": instant_text(key.expires_at),
        **_limit_fields(key, counters),
        **_usage_fields(counters),
    }
    if call.options.has_last_used_at:
        row |= {"external_user": key.external_user, "last_used_at": instant_text(counters.last_used_at)}
    return row | ({"a_field_of_tomorrow": {"depth": 1}} if call.options.extra_fields else {})


def _usage_fields(counters: Counters) -> Json:
    names = ("usage", "usage_daily", "usage_weekly", "usage_monthly")
    return {name: getattr(counters, name) for plain in names for name in (plain, f"byok_{plain}")}


def _limit_fields(key: ApiKey, counters: Counters) -> Json:
    suffix = f"_{key.limit_reset}" if key.limit_reset else ""
    spent = getattr(counters, f"usage{suffix}")
    if key.include_byok_in_limit:
        spent += getattr(counters, f"byok_usage{suffix}")
    return {
        "limit": key.limit,
        "limit_remaining": None if key.limit is None else max(key.limit - spent, Decimal(0)),
        "limit_reset": key.limit_reset,
        "include_byok_in_limit": key.include_byok_in_limit,
    }


def _rights(call: Call) -> Json:
    """What only `GET /key` tells, whatever the key."""
    return {
        "is_management_key": call.key is None,
        "is_provisioning_key": call.key is None,
        "is_free_tier": call.account.credits_bought == 0,
        "organization_id": None if call.options.is_personal else f"org_{call.account.name}",
        "allowed_data_regions": ["global"],
        "budgets": [],
        "effective_budget": None,
        "free_model_daily_requests": {"limit": 1000, "remaining": 1000, "used": 0},
        "rate_limit": {"interval": "1h", "note": "This field is deprecated and safe to ignore.", "requests": 1000},
    }


def _session(call: Call) -> Json:
    """The key's own counters and limits; a management key runs no models, so its are zero."""
    key = call.key
    if key is None:
        limits = {"limit": None, "limit_remaining": None, "limit_reset": None, "include_byok_in_limit": False}
        owner = {"creator_user_id": None, "workspace_id": None, "expires_at": None}
        return {**_usage_fields(Counters()), **limits, **owner}
    counters = call.ledger.counters(call.account.name, key.hash, call.now)
    owner = {
        "creator_user_id": key.creator_user_id,
        "workspace_id": key.workspace_id,
        "expires_at": instant_text(key.expires_at),
    }
    return {**_usage_fields(counters), **_limit_fields(key, counters), **owner}


def _workspace_row(workspace: Workspace) -> Json:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "slug": workspace.slug,
        "description": None,
        "created_at": EPOCH,
        "created_by": None,
        "updated_at": None,
        "default_guardrail_id": workspace.id,
        "default_image_model": None,
        "default_provider_sort": None,
        "default_text_model": None,
        "io_logging_api_key_ids": None,
        "io_logging_sampling_rate": 1,
        "is_data_discount_logging_enabled": False,
        "is_observability_broadcast_enabled": False,
        "is_observability_io_logging_enabled": False,
    }


def _model_row(model: Model) -> Json:
    return {
        "id": model.slug,
        "canonical_slug": model.permaslug,
        "name": model.name,
        "created": model.created,
        "description": model.name,
        "context_length": model.context_length,
        "architecture": {
            "modality": f"text->{'+'.join(model.outputs)}",
            "input_modalities": ["text"],
            "output_modalities": list(model.outputs),
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": format(model.prompt_usd, "f"),
            "completion": format(model.completion_usd, "f"),
            **model.more_prices,
        },
        "top_provider": {
            "is_moderated": False,
            "context_length": model.context_length,
            "max_completion_tokens": None,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature"],
        "supported_voices": None,
        "default_parameters": None,
        "links": {"details": f"/api/v1/models/{model.permaslug}/endpoints"},
    }

"""How the server answers: JSON that is always ASCII, and errors in the shape that OpenAI's clients understand."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException
from fastapi.responses import Response

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


class Answer(Response):
    """JSON with escapes for all that is not ASCII: a lone surrogate of a prompt can be said back, NaN never gets in."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Refusal(HTTPException):
    """A request that cannot be answered: `status` and what is wrong, with the parameter where it is one's fault."""

    def __init__(self, status: int, message: str, *, param: str | None = None, wait: int | None = None) -> None:
        super().__init__(status, message, headers=None if wait is None else {"Retry-After": str(wait)})
        self.param = param


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """`{"error": {...}}` as OpenAI's API says it."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def problems_in_words(errors: Sequence[Any]) -> tuple[str, str | None]:
    """Pydantic's findings as one sentence, without the values, and the first parameter they are about."""
    words, first = [], None
    for error in errors[:3]:
        place = ".".join(str(part) for part in error["loc"] if part not in ("body", "path", "query"))[:100]
        first = first or place or None
        reason = error["msg"].removeprefix("Value error, ")[:300]
        words.append(f"{place}: {reason}" if place else reason)
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    return "; ".join(words) + more, first

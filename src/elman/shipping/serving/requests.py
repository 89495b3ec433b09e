"""What a request may say: the bodies of all routes, checked before anything is done with them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from elman.shipping.serving.drawing import ALTERNATIVES
from elman.text.sampling import SamplingSettings

MOST_TEXTS = 128
"""Choices of one request: prompts times n."""

MOST_SYMBOLS = 1_000_000
"""Symbols of one text."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Code = Annotated[int, Field(ge=0, lt=2**31)]


class _Strict(BaseModel):
    """Types as they are said, no unknown names, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(_Strict):
    """What a stream tells beside the text."""

    include_usage: bool | None = False
    include_obfuscation: bool | None = False


class Drawing(_Strict):
    """How symbols are drawn. A symbol is a character or a byte, so `max_tokens` counts these.

    top_k, min_p and repetition_penalty are elman's own (`extra_body` in OpenAI's client), as is `unknown`: what becomes of
    characters that the model has never seen. logprobs are the network's own, before temperature and filters.
    """

    max_tokens: Annotated[int, Field(ge=0, le=MOST_SYMBOLS)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = None
    stop: (
        Annotated[str, Field(max_length=256)]
        | Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=16)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    unknown: Literal["skip", "error"] = "skip"

    @property
    def settings(self) -> SamplingSettings:
        """As the sampler takes them; a top_p of 0 is the smallest there is."""
        return SamplingSettings(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else max(self.top_p, 1e-6),
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
        )

    @property
    def length(self) -> int:
        """Symbols to draw; OpenAI's default."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end a text."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tuple(text for text in stop if text)


class CompletionRequest(Drawing):
    """The body of `/v1/completions`."""

    model: Annotated[str, Field(max_length=256)]
    prompt: (
        Annotated[str, Field()]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
        | Annotated[list[Code], Field(min_length=1)]
        | Annotated[list[Annotated[list[Code], Field(min_length=1)]], Field(min_length=1, max_length=MOST_TEXTS)]
        | None
    ) = None
    n: Annotated[int, Field(ge=1, le=MOST_TEXTS)] | None = None
    echo: bool | None = False
    logprobs: Annotated[int, Field(ge=0, le=ALTERNATIVES)] | None = None
    best_of: Annotated[int, Field(ge=0, le=MOST_TEXTS)] | None = None
    frequency_penalty: Literal[0] | Annotated[Number, Field(ge=0, le=0)] | None = None
    presence_penalty: Literal[0] | Annotated[Number, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None
    user: str | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or several, each as text or as symbols."""
        prompt: Any = self.prompt or ""
        return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt


Cell = float | int | str | None

Row = Annotated[dict[Annotated[str, Field(max_length=256)], Cell], Field(min_length=1, max_length=4096)]


class ForecastRequest(_Strict):
    """The body of `/v1/forecast`: the rows up to now, of one series or of several, as dictionaries or as columns."""

    model: Annotated[str, Field(max_length=256)]
    rows: Annotated[list[Row], Field(min_length=1)] | None = None
    columns: Annotated[dict[Annotated[str, Field(max_length=256)], list[Cell]], Field(min_length=1)] | None = None
    time_column: Annotated[str, Field(max_length=256)] | None = None
    series_column: Annotated[str, Field(max_length=256)] | None = None
    time_format: Annotated[str, Field(max_length=256)] | None = None
    time_zone: Annotated[str, Field(max_length=256)] | None = None

    @property
    def reading(self) -> dict[str, str]:
        """How the rows are written, where otherwise than in training."""
        names = ("time_column", "series_column", "time_format", "time_zone")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class OpenSession(_Strict):
    """The body of `POST /v1/sessions`: rows for a forecaster, text for a model of text (or a state that was saved)."""

    model: Annotated[str, Field(max_length=256)]
    text: str | None = None
    unknown: Literal["skip", "error"] = "skip"
    state: Annotated[str, Field(max_length=64 * 2**20)] | None = None
    rows: Annotated[list[Row], Field(min_length=1)] | None = None
    time_column: Annotated[str, Field(max_length=256)] | None = None
    series_column: Annotated[str, Field(max_length=256)] | None = None
    time_format: Annotated[str, Field(max_length=256)] | None = None
    time_zone: Annotated[str, Field(max_length=256)] | None = None


class PushRows(_Strict):
    """The body of `POST /v1/sessions/{id}/rows`."""

    rows: Annotated[list[Row], Field(min_length=1, max_length=10_000)]


class AppendText(_Strict):
    """The body of `POST /v1/sessions/{id}/text`."""

    text: str
    unknown: Literal["skip", "error"] = "skip"


class ContinueText(Drawing):
    """The body of `POST /v1/sessions/{id}/completions`. keep: whether the text that is drawn becomes part of the session."""

    prompt: str = ""
    keep: bool = True

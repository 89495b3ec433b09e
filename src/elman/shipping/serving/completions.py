"""From symbols to OpenAI's answers: one choice for each text in the making, whole or as a stream of events."""

import json
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from elman.errors import ElmanError
from elman.shipping.serving.answers import Refusal, error_body
from elman.shipping.serving.batching import Piece, Stream
from elman.shipping.serving.drawing import Scores
from elman.shipping.serving.hosting import Host, Served, started
from elman.shipping.serving.requests import MOST_TEXTS, CompletionRequest
from elman.text.model import TextModel


def codes_of(model: TextModel, prompt: str | list[int], unknown: str = "skip") -> np.ndarray:
    """The symbols of a prompt, maybe none. Raises: `Refusal` for what the model does not know."""
    vocabulary = model.vocabulary
    if not isinstance(prompt, str):
        codes = np.asarray(prompt, np.int64)
        if codes.max() >= vocabulary.size:
            raise Refusal(
                400, f"prompt: symbol {int(codes.max())} is not in a vocabulary of {vocabulary.size}", param="prompt"
            )
        return codes.astype(np.int32)
    try:
        return vocabulary.encode(prompt, unknown=unknown).astype(np.int32)
    except ElmanError as error:
        raise Refusal(400, f"prompt: {error}", param="prompt") from None


def primer(model: TextModel) -> np.ndarray:
    """What is read where there is nothing to go on from: a newline, or the first symbol there is, as `elman sample` does."""
    newline = model.vocabulary.encode("\n", unknown="skip").astype(np.int32)
    return newline[:1] if len(newline) else np.zeros(1, np.int32)


class Choice:
    """One text in the making: from symbols to text that is certain, up to a stop string.

    logprobs: how many alternatives are told with each symbol; None: no probabilities. echo: the prompt, as text and as symbols,
    where the answer begins with it.
    """

    def __init__(
        self,
        model: TextModel,
        stops: tuple[str, ...] = (),
        *,
        logprobs: int | None = None,
        echo: tuple[str, np.ndarray] | None = None,
    ) -> None:
        self._vocabulary, self._stops, self._wanted, self._echo = model.vocabulary, stops, logprobs, echo
        self._decoder, self._measure = self._vocabulary.decoder(), self._vocabulary.decoder()
        self._keep = max((len(stop) for stop in stops), default=1) - 1
        self._held = ""
        # The number of each symbol (of the prompt: below 0), its place in the text, itself, and what is told of it.
        self._told: list[tuple[int, int, str, float | None, dict[str, float] | None]] = []
        self._said = self._written = self._place = self._scored = 0
        self._codes: list[np.ndarray] = []
        self.finish_reason: str | None = None
        if echo is not None and logprobs is not None:
            self._tell(echo[1][:1], None, prompt=True)

    @property
    def codes(self) -> np.ndarray:
        """The symbols of the text so far; at its end, those up to the stop string."""
        return np.concatenate(self._codes) if self._codes else np.zeros(0, np.int32)

    def feed(self, piece: Piece) -> tuple[str, dict[str, Any] | None]:
        """The text that is certain now, and its log probabilities where they are wanted."""
        if self._wanted is not None and piece.scores is not None:
            self._tell(piece.symbols, piece.scores, prompt=piece.prompt)
        if piece.prompt:
            return "", None
        said = ""
        if self._echo is not None:
            said, self._echo = self._echo[0], None
        self._codes.append(piece.symbols)
        self._held += self._decoder.feed_all(piece.symbols) + (self._decoder.finish() if piece.last else "")
        ends = [self._held.find(stop) for stop in self._stops if stop in self._held]
        if ends:
            self.finish_reason = "stop"
            self._held = self._held[: min(ends)]
            self._drop(self._written + len(self._held))
        elif piece.last:
            self.finish_reason = "length"
        # The tail may be the beginning of a stop string: it waits for what follows.
        keep = 0 if self.finish_reason else self._keep
        ready, self._held = (self._held[:-keep], self._held[-keep:]) if keep else (self._held, "")
        self._said += len(said) + len(ready)
        self._written += len(ready)
        return said + ready, None if self._wanted is None else self._logs()

    def _drop(self, length: int) -> None:
        """Take back the symbols behind the first `length` characters."""
        codes = self.codes
        if self._vocabulary.unit == "byte":
            codes = codes[: self._symbols_in(codes, length)]
        self._codes = [codes[:length]] if self._vocabulary.unit == "character" else [codes]
        self._told = [one for one in self._told if one[0] < len(self._codes[0])]

    def _symbols_in(self, codes: np.ndarray, length: int) -> int:
        """As many bytes as make no more than `length` characters, one that is not whole counted as one."""
        decoder, made = self._vocabulary.decoder(), 0
        for number, code in enumerate(codes.tolist()):
            text = decoder.feed(code)
            made += len(text)
            if made + (not text) > length:
                return number
        return len(codes)

    def _tell(self, codes: np.ndarray, scores: Scores | None, *, prompt: bool) -> None:
        """Keep log probabilities until the text that they belong to is said."""
        for row, code in enumerate(codes.tolist()):
            own = top = None
            if scores is not None:
                own = _finite(scores.own[row])
                pairs = list(zip(scores.symbols[row].tolist(), scores.logs[row].tolist(), strict=True))
                top = {self._word(symbol): _finite(log) for symbol, log in pairs[: self._wanted]}
            self._told.append((-1 if prompt else self._scored, self._place, self._word(code), own, top))
            self._scored += not prompt
            self._place += len(self._measure.feed(code))

    def _logs(self) -> dict[str, Any]:
        """The log probabilities of the text that was said since the last time."""
        ready = [one for one in self._told if one[1] < self._said]
        self._told = self._told[len(ready) :]
        _, offsets, words, owns, tops = ([one[column] for one in ready] for column in range(5))
        return {
            "tokens": words,
            "token_logprobs": owns,
            "top_logprobs": tops if self._wanted else None,
            "text_offset": offsets,
        }

    def _word(self, code: int) -> str:
        """A symbol as OpenAI writes it: bytes that are no character by themselves as `bytes:\\xe2`."""
        symbol = self._vocabulary.symbols[code]
        if isinstance(symbol, str):
            return symbol
        return symbol.decode() if symbol < b"\x80" else f"bytes:\\x{symbol[0]:02x}"


class Part(NamedTuple):
    """A piece of one choice: its number, text, log probabilities, and why it ends where it does."""

    number: int
    text: str
    logs: dict[str, Any] | None
    finish_reason: str | None

    def choice(self) -> dict[str, Any]:
        """As OpenAI says it."""
        return {"index": self.number, "text": self.text, "logprobs": self.logs, "finish_reason": self.finish_reason}


@dataclass
class Completion:
    """All texts of one request, and the answer that is made of them. finish: done when all are whole, before the answer is."""

    served: Served
    streams: list[Stream]
    choices: list[Choice]
    prompt_symbols: int
    include_usage: bool = False
    finish: Callable[[], Awaitable[None]] | None = None
    identifier: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=started)

    @property
    def usage(self) -> dict[str, int]:
        """Symbols read and drawn."""
        drawn = sum(len(choice.codes) for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_symbols,
            "completion_tokens": drawn,
            "total_tokens": self.prompt_symbols + drawn,
        }

    async def parts(self, host: Host) -> AsyncIterator[list[Part]]:
        """What is new. Raises: whatever makes a stream fail."""
        numbers = {stream: number for number, stream in enumerate(self.streams)}
        with host.flow(self.served, self.streams) as flow:
            async for pieces in flow.pieces():
                parts = []
                for piece in pieces:
                    number = numbers[piece.stream]
                    choice = self.choices[number]
                    if piece.error is not None:
                        raise piece.error
                    if choice.finish_reason is not None:
                        continue
                    text, logs = choice.feed(piece)
                    if choice.finish_reason is not None:
                        flow.end(piece.stream)
                    if text or choice.finish_reason is not None:
                        parts.append(Part(number, text, logs, choice.finish_reason))
                if self.finish is not None and all(choice.finish_reason is not None for choice in self.choices):
                    await self.finish()
                if parts:
                    yield parts

    async def whole(self, host: Host) -> dict[str, Any]:
        """The answer in one piece."""
        texts: list[list[str]] = [[] for _ in self.choices]
        logs: list[dict[str, Any] | None] = [None for _ in self.choices]
        async for parts in self.parts(host):
            for part in parts:
                texts[part.number].append(part.text)
                logs[part.number] = _joined(logs[part.number], part.logs)
        choices = [
            Part(number, "".join(text), logs[number], choice.finish_reason).choice()
            for number, (text, choice) in enumerate(zip(texts, self.choices, strict=True))
        ]
        return self._object(choices, usage=self.usage)

    async def events(self, host: Host) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events, `[DONE]` at the end."""
        empty: dict[str, Any] = {"usage": None} if self.include_usage else {}
        async for parts in self.parts(host):
            yield b"".join(_event(self._object([part.choice()], **empty)) for part in parts)
        if self.include_usage:
            yield _event(self._object([], usage=self.usage))
        yield b"data: [DONE]\n\n"

    def _object(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.identifier,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.name,
            "choices": choices,
            **more,
        }


def completion_of(request: CompletionRequest, served: Served, longest: int) -> Completion:
    """The streams and choices that a request asks for. Raises: `Refusal` for what cannot be."""
    model, copies = served.model, request.n or 1
    prompts = request.prompts
    if len(prompts) * copies > MOST_TEXTS:
        raise Refusal(400, f"{len(prompts)} prompts with n = {copies} are more than {MOST_TEXTS} texts", param="n")
    if request.length > longest:
        raise Refusal(
            400, f"max_tokens = {request.length} is more than this server writes: {longest}", param="max_tokens"
        )
    if request.length == 0 and not request.echo:
        raise Refusal(400, "max_tokens = 0 asks for nothing: set it, or echo", param="max_tokens")
    if request.best_of not in (None, copies):
        raise Refusal(400, "best_of other than n is not possible here", param="best_of")
    streams, choices, read = [], [], 0
    for number, prompt in enumerate(prompts):
        codes = codes_of(model, prompt, request.unknown)
        read += len(codes)
        shown = prompt if isinstance(prompt, str) else model.vocabulary.decode(codes)
        for copy in range(copies):
            # Copies of one seed differ, and each is the same whatever n is.
            seed = None if request.seed is None else _seed(request.seed, number * copies + copy)
            scored = request.logprobs is not None
            streams.append(
                Stream(
                    codes if len(codes) else primer(model),
                    request.length,
                    request.settings,
                    seed=seed,
                    scored=scored,
                    score_prompt=scored and bool(request.echo),
                )
            )
            echo = (shown, codes) if request.echo else None
            choices.append(Choice(model, request.stops, logprobs=request.logprobs, echo=echo))
    usage = bool(request.stream_options and request.stream_options.include_usage)
    return Completion(served, streams, choices, read, include_usage=usage)


def failure_event(message: str, status: int = 500) -> bytes:
    """An error in the middle of a stream, as OpenAI's client understands it."""
    return _event(error_body(status, message))


def _seed(seed: int, number: int) -> int:
    """The first text's is the request's own, so that it is the text of `elman sample --seed`."""
    return (seed + number) % 2**64


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"


def _joined(logs: dict[str, Any] | None, more: dict[str, Any] | None) -> dict[str, Any] | None:
    if logs is None or more is None:
        return logs or more
    return {name: None if logs[name] is None else logs[name] + more[name] for name in logs}


def _finite(log: float) -> float:
    """A log probability that JSON can hold."""
    return -9999.0 if math.isinf(log) else round(float(log), 6)

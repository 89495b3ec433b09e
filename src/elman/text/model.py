"""A trained character model: one file, from which one samples, scores text and goes on."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elman.config import Config
from elman.errors import BundleError, ConfigError, DataError
from elman.network import Network, to_arrays, with_arrays
from elman.text.sampling import SamplingSettings, sample_symbols
from elman.text.scoring import nats_per_symbol
from elman.text.vocabulary import Vocabulary
from elman.training.bundle import Bundle, made_with
from elman.training.engine import precision
from elman.training.runs import bundle_of


@dataclass(frozen=True, eq=False)
class TextModel:
    """A network with its vocabulary and settings. `load` reads one from a bundle or a run folder.

    >>> from elman.text.model import TextModel
    >>> model = TextModel.untrained("hello", hidden=8)
    >>> len(model.sample("h", length=20))
    20
    """

    network: Network
    vocabulary: Vocabulary
    config: Config
    result: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> "TextModel":
        """Read a bundle, or the best weights of a run folder.

        Raises: `BundleError` when the file is damaged, of another kind or too new; `RunError` for a folder that is no run.
        """
        path = bundle_of(path)
        bundle = Bundle.load(path)
        if bundle.kind != "text":
            raise BundleError(f"{path} holds a model of kind {bundle.kind!r}; a text model is expected here")
        try:
            vocabulary = Vocabulary.from_dict(bundle.codec)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None
        config = Config.from_dict(bundle.config)
        with precision(config.training.dtype):
            # The shapes that the settings call for, without drawing weights: a hostile size costs nothing.
            template = network_shape(config, vocabulary.size, source=str(path))
            network = with_arrays(template, bundle.arrays, str(path))
        return cls(network, vocabulary, config, bundle.result)

    @classmethod
    def untrained(cls, text: str, *, seed: int = 0, **settings: Any) -> "TextModel":
        """A model with starting weights over the characters of `text`."""
        config = Config().replace(**{"hidden": 128, **settings})
        vocabulary = Vocabulary.from_text(text, unit=config.text.unit, normal_form=config.text.normal_form)
        return cls(new_network(config, vocabulary.size, seed), vocabulary, config)

    def save(self, path: Path | str) -> None:
        """Write the bundle: one safetensors file with everything that is needed to use the model."""
        Bundle(
            kind="text",
            arrays=to_arrays(self.network),
            config=self.config.to_dict("text"),
            codec=self.vocabulary.to_dict(),
            made_with=made_with(),
            result=self.result,
        ).save(path)

    def sample(self, prime: str = "", *, length: int = 500, seed: int | None = None, **options: Any) -> str:
        """A text that goes on from `prime` (which is not repeated). Options: see `stream`."""
        return "".join(self.stream(prime, length=length, seed=seed, **options))

    def samples(
        self, count: int, prime: str = "", *, length: int = 500, seed: int | None = None, **options: Any
    ) -> list[str]:
        """`count` texts that go on from the same `prime`, drawn side by side."""
        if count < 1:
            raise ConfigError(f"samples = {count!r} is out of range: an integer of at least 1")
        _check_length(length)
        options, stop = _split_stop(options)
        codes = self._prime(prime, options.pop("unknown", "skip"))
        settings = SamplingSettings.from_options(**options)
        with precision(self.config.training.dtype):
            pieces = list(
                sample_symbols(self.network, codes, length, settings=settings, seed=_seed(seed), samples=count)
            )
        columns = np.concatenate(pieces).T if pieces else np.zeros((count, 0), np.int32)
        return [_before_stop(self.vocabulary.decode(column), stop) for column in columns]

    def stream(self, prime: str = "", *, length: int = 500, seed: int | None = None, **options: Any) -> Iterator[str]:
        """The same text as `sample`, in pieces as they are made.

        seed: the same seed gives the same text; None: another one each time.
        unknown: what becomes of characters in `prime` that the model has never seen: "skip" or "error".
        stop: a string or several; the text ends before the first that appears.
        temperature, top_k, top_p, min_p, repetition_penalty: see `SamplingSettings`.

        Raises: `ConfigError` for an unknown option or impossible value; `DataError` for an unknown character with unknown="error".
        """
        _check_length(length)
        options, stop = _split_stop(options)
        codes = self._prime(prime, options.pop("unknown", "skip"))
        settings = SamplingSettings.from_options(**options)
        pieces = sample_symbols(self.network, codes, length, settings=settings, seed=_seed(seed))
        return self._decoded(pieces, stop)

    def _decoded(self, pieces: Iterator[np.ndarray], stop: tuple[str, ...]) -> Iterator[str]:
        """The text of `pieces` as far as it is certain, up to the first stop string."""
        decoder, held = self.vocabulary.decoder(), ""
        keep = max((len(text) for text in stop), default=1) - 1
        while (piece := self._next(pieces)) is not None:
            held += decoder.feed_all(piece)
            cut = _before_stop(held, stop)
            if cut != held:
                yield cut
                return
            # The tail may be the beginning of a stop string: it waits for what follows.
            ready, held = (held[:-keep], held[-keep:]) if keep else (held, "")
            if ready:
                yield ready
        held = _before_stop(held + decoder.finish(), stop)
        if held:
            yield held

    def _next(self, pieces: Iterator[np.ndarray]) -> np.ndarray | None:
        """The next piece, computed in the model's precision, which the caller's own code never runs in."""
        with precision(self.config.training.dtype):
            return next(pieces, None)

    def evaluate(self, text: str) -> dict[str, float]:
        """How well the model predicts `text`: nats and bits per character, the first character not counted.

        Raises: `DataError` for characters that the model does not know, or fewer than two.
        """
        return self.evaluate_codes(self.vocabulary.encode(text))

    def evaluate_codes(self, codes: np.ndarray, context: np.ndarray | None = None) -> dict[str, float]:
        """`evaluate` for codes of the model's own vocabulary, after `context`."""
        scored = len(codes) - (0 if context is not None and len(context) else 1)
        if scored < 1:
            raise DataError(f"a text of {len(codes)} symbols is too short to be scored: give at least 2")
        with precision(self.config.training.dtype):
            nats = nats_per_symbol(self.network, codes, context)
        return {"nats_per_character": nats, "bits_per_character": nats / math.log(2), "characters": scored}

    def _prime(self, prime: str, unknown: str) -> np.ndarray:
        """The codes of `prime`; where nothing is left of it, those of a newline, or of the first symbol there is."""
        if unknown not in ("skip", "error"):
            raise ConfigError(f"unknown = {unknown!r} is not possible: one of skip, error")
        codes = self.vocabulary.encode(prime, unknown=unknown)
        if len(codes) == 0:
            newline = self.vocabulary.encode("\n", unknown="skip")
            codes = newline if len(newline) else np.zeros(1, self.vocabulary.dtype)
        return codes


def load(path: Path | str) -> TextModel:
    """The model in a bundle, or the best one of a run folder; see `TextModel.load`."""
    return TextModel.load(path)


def new_network(config: Config, vocab_size: int, seed: int) -> Network:
    """A network with starting weights for `config` over `vocab_size` symbols."""
    dtype = jnp.dtype(config.training.dtype)
    with precision(config.training.dtype):
        create = functools.partial(Network.create, config.network, vocab_size, vocab_size, dtype=dtype)
        return jax.jit(create)(key=jax.random.key(seed))  # compiled as one program, which the next start finds ready


def network_shape(config: Config, vocab_size: int, source: str) -> Network:
    """A network of shapes only; `source` names the file whose settings these are."""
    if config.network.hidden is None:
        raise BundleError(f"{source} does not say how many hidden units its network has")
    try:
        return jax.eval_shape(lambda: new_network(config, vocab_size, 0))
    except (OverflowError, TypeError, ValueError, MemoryError) as error:
        raise BundleError(f"{source} calls for a network that cannot be: {error}") from None


def _check_length(length: int) -> None:
    if length < 1:
        raise ConfigError(f"length = {length!r} is out of range: an integer of at least 1")


def _split_stop(options: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    options = dict(options)
    stop = options.pop("stop", ()) or ()
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    return options, tuple(text for text in stop if text)


def _before_stop(text: str, stop: tuple[str, ...]) -> str:
    ends = [text.find(string) for string in stop if string in text]
    return text[: min(ends)] if ends else text


def _seed(seed: int | None) -> int:
    if seed is None:
        return int(np.random.default_rng().integers(2**32))
    if seed < 0:
        raise ConfigError(f"seed = {seed!r} is out of range: an integer of at least 0")
    return seed

"""What a run folder or a bundle is about: text or series."""

from pathlib import Path

from elman.errors import ConfigError, ElmanError
from elman.training.bundle import Bundle
from elman.training.runs import Run


def kind_of(path: str | Path) -> str:
    """ "series" for a forecaster's run or bundle, else "text", whose own reading says what is wrong with anything else."""
    return "series" if _said_kind(path) == "series" else "text"


def refuse_series(path: str | Path) -> None:
    """For commands that are about text. Raises: `ConfigError` for a forecaster, with the command that it is for."""
    if _said_kind(path) == "series":
        raise ConfigError(
            f"{path} holds a forecaster (kind 'series') and writes no text, but a text model is expected here: "
            f"use `elman forecast {path}`"
        )


def refuse_text(path: str | Path) -> None:
    """For commands that are about series. Raises: `ConfigError` for a model of text, with the command that it is for."""
    if _said_kind(path) == "text":
        raise ConfigError(
            f"{path} holds a model of text and forecasts nothing, but a forecaster is expected here: "
            f"use `elman sample {path}` or `elman evaluate {path}`"
        )


def _said_kind(path: str | Path) -> str:
    """What the folder or the file says of itself; empty where it cannot be read."""
    try:
        if not Path(path).is_dir():
            return Bundle.load(path).kind
        facts = Run(path).description.get("run")
    except (ElmanError, OSError):
        return ""
    return str(facts.get("task")) if isinstance(facts, dict) else ""

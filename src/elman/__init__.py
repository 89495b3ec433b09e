"""elman: train, open up and ship recurrent networks, for text and for time series.

One sentence holds the program together: a cell is one step; the recurrence repeats it; a head says what the output means.

Axes have one vocabulary everywhere: `time`, `batch`, `inputs`, `hidden`, `gates`, `carry`, `outputs`, `vocab`. Time comes first:
an array of inputs is `[time, batch, inputs]`, and `[time, inputs]` for a single sequence.

Importing this package loads no JAX: each name below is fetched from its module when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# The public names and where each one lives. What is not here may change without notice.
_HOMES: dict[str, str] = {
    "Config": "elman.config",
    "CELLS": "elman.network",
    "Categorical": "elman.network",
    "Elman": "elman.network",
    "Forecaster": "elman.series.forecaster",
    "GRU": "elman.network",
    "LSTM": "elman.network",
    "Network": "elman.network",
    "Point": "elman.network",
    "Quantiles": "elman.network",
    "Run": "elman.training.runs",
    "SeriesModel": "elman.series.model",
    "SeriesRun": "elman.series.run",
    "TextModel": "elman.text.model",
    "TextRun": "elman.text.run",
    "Vocabulary": "elman.text.vocabulary",
    "load": "elman.text.model",
    "resume_series": "elman.series.trainer",
    "resume_text": "elman.text.trainer",
    "train_series": "elman.series.trainer",
    "train_text": "elman.text.trainer",
    "unroll": "elman.network",
    "write_report": "elman.reports",
    "BundleError": "elman.errors",
    "ConfigError": "elman.errors",
    "DataError": "elman.errors",
    "ElmanError": "elman.errors",
    "RunError": "elman.errors",
    "TrainingError": "elman.errors",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'elman' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

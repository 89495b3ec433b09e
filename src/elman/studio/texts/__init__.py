"""Every text that the studio shows, in English and in Persian, from one table: a TOML file for each page beside this module.

    [title]
    en = "Runs"
    fa = "اجراها"

is the text `runs.title` of `runs.toml`. Values stand in braces by name; numbers get the digits of the language.

    >>> translator("fa")("common.update", number=2000)
    'به‌روزرسانی ۲٬۰۰۰'
"""

import functools
import tomllib
from collections.abc import Callable
from importlib import resources
from typing import Any

LANGUAGES = {"en": "English", "fa": "فارسی"}
"""By code, in their own words. The first is what is not translated falls back to: nothing, for a test compares them."""

RIGHT_TO_LEFT = {"fa"}

Translate = Callable[..., str]

_PERSIAN = str.maketrans("0123456789,.", "۰۱۲۳۴۵۶۷۸۹٬٫")


@functools.cache
def table() -> dict[str, dict[str, str]]:
    """Every text by its name, each by language."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            page = tomllib.loads(file.read_text(encoding="utf-8"))
            found |= {f"{file.name.removesuffix('.toml')}.{name}": texts for name, texts in page.items()}
    return found


def translator(language: str) -> Translate:
    """A function that gives the text of a name, with its values put in.

    Raises: `KeyError` for a name that is not in the table.
    """

    def translate(name: str, /, **values: Any) -> str:
        text = table()[name][language]
        return text.format(**{key: in_digits(value, language) for key, value in values.items()}) if values else text

    return translate


def in_time(seconds: float, language: str) -> str:
    """A stretch of time in words.

    >>> in_time(75, "en"), in_time(3700, "fa")
    ('1 min 15 s', '۱ ساعت ۱ دقیقه')
    """
    translate = translator(language)
    hours, minutes, rest = int(seconds) // 3600, int(seconds) // 60 % 60, int(seconds) % 60
    if hours:
        return translate("common.hours", hours=hours, minutes=minutes)
    return (
        translate("common.minutes", minutes=minutes, seconds=rest)
        if minutes
        else translate("common.seconds", seconds=rest)
    )


def in_digits(value: Any, language: str) -> Any:
    """A number as the language writes it, whole ones in groups of three; anything else as it is.

    >>> in_digits(12345, "en"), in_digits(0.5, "fa"), in_digits("a1", "fa")
    ('12,345', '۰٫۵', 'a1')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return text.translate(_PERSIAN) if language == "fa" else text

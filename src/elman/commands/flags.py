"""Flags that several commands share."""

from typing import Any


def add_data_dir(parser: Any, what: str) -> None:
    """--data-dir. what: what lies in the folder."""
    parser.add_argument("--data-dir", metavar="DIR", help=f"folder with {what} (default: $ELMAN_DATA)")

"""The page Forecast."""

from elman.studio.app import Studio
from elman.studio.layout import heading


def page(studio: Studio) -> None:
    """Build the page."""
    heading(studio.t("common.forecast"))

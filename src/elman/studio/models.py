"""Trained models, loaded once for all pages and again when their file changes; a bounded number of them is kept."""

import threading
from collections import OrderedDict
from pathlib import Path

from elman.errors import BundleError
from elman.series.model import SeriesModel
from elman.text.model import TextModel
from elman.training.bundle import Bundle
from elman.training.runs import bundle_of

KEPT = 4
"""Models in memory at once."""

Model = TextModel | SeriesModel


class Models:
    """`load` gives the model of a run folder or bundle. It takes a moment: call it off the event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int, int], Model] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, path: Path) -> Model:
        """The model at `path`, as its file is now.

        Raises: `BundleError` or `RunError` where there is none or it cannot be read.
        """
        bundle = bundle_of(path)
        try:
            status = bundle.stat()
        except OSError as error:
            raise BundleError(f"{bundle} cannot be read: {error.strerror}; check its name") from None
        key = (bundle.absolute(), status.st_mtime_ns, status.st_size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            model = SeriesModel.load(bundle) if Bundle.load(bundle).kind == "series" else TextModel.load(bundle)
            self._kept[key] = model
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return model

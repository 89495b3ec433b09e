"""Files of every format that was ever written load, and give what they gave then."""

import json
from pathlib import Path

import pytest

import elman
from elman.training.storage import FORMAT

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_a_bundle_of_every_format_loads_and_gives_its_stored_output(number: int) -> None:
    stored = json.loads((GOLDEN / f"format-{number}-text.json").read_text(encoding="utf-8"))
    model = elman.load(GOLDEN / f"format-{number}-text.safetensors")
    # The order of float32 sums may differ between processors.
    assert model.evaluate(stored["text"])["nats_per_character"] == pytest.approx(stored["nats_per_character"], rel=1e-5)
    assert model.sample("the ", length=20, temperature=0.0, seed=0) == stored["likeliest"]

"""The handler that benchmarks/serving.py compares with, in the peers' environment: FastAPI and PyTorch as one would write it.

python serving_peer.py PORT

Each request steps through an nn.GRU of 256 units in a thread of the pool and sends an event for every `block` symbols: 1 is the
plain way, 64 is kinder to it than most code.
"""

import json
import sys
from collections.abc import Iterator

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

VOCABULARY, HIDDEN = 65, 256

embedding = torch.nn.Embedding(VOCABULARY, HIDDEN)
cell = torch.nn.GRU(HIDDEN, HIDDEN, batch_first=True)
head = torch.nn.Linear(HIDDEN, VOCABULARY)
app = FastAPI()


class Body(BaseModel):
    """As much of OpenAI's as is needed."""

    prompt: str
    max_tokens: int
    block: int = 1


@app.post("/v1/completions")
def complete(body: Body) -> StreamingResponse:
    """A stream of events."""
    return StreamingResponse(events(body), media_type="text/event-stream")


@torch.inference_mode()
def step(symbols: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """One symbol drawn behind `symbols`."""
    hidden, state = cell(embedding(symbols), state)
    shares = torch.softmax(head(hidden[:, -1]), dim=-1)
    return torch.multinomial(shares, 1), state


def events(body: Body) -> Iterator[str]:
    """Symbol by symbol."""
    symbols = torch.tensor([[(ord(letter) - 33) % VOCABULARY for letter in body.prompt]])
    state, text = None, ""
    for number in range(1, body.max_tokens + 1):
        symbols, state = step(symbols, state)
        text += chr(33 + int(symbols))
        if number % body.block == 0 or number == body.max_tokens:
            yield f"data: {json.dumps({'choices': [{'index': 0, 'text': text}]})}\n\n"
            text = ""
    yield "data: [DONE]\n\n"


if __name__ == "__main__":
    torch.manual_seed(0)
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")

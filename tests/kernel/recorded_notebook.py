"""Makes `notebooks/recorded.ipynb` and its cassette anew: ``python -m tests.kernel.recorded_notebook``.

The answers are those of a stand-in for a model, on loopback: they are written down here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.server import start_server
from tests.servers.openai_server import OpenAIServer, Reply

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "recorded.ipynb"


def _said(tea: str, cups: int, price: float) -> tuple[Reply, ...]:
    total = cups * price
    return (
        Reply(calls=(("calculator", {"expression": f"{cups} * {price}"}),)),
        Reply(f"{cups} cups of {tea} at ${price} each are ${total:.2f}."),
        Reply(f"(A stand-in wrote this.) Today we pour {tea}: {cups} cups for ${total:.2f}."),
    )


def _run(environ: dict[str, str], notebook: nbformat.NotebookNode, folder: Path) -> None:
    # What is looked for in the environment, the kernel inherits.
    os.environ.update(environ)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()


def main() -> None:
    """Record the cassette, replay the notebook from it where no model is, and save that."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cassette = NOTEBOOK.with_suffix(".jsonl")
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        server = start_server(room)
        known = {"KASAL_URL": server.url, "KASAL_TOKEN": server.token, "IPYTHONDIR": name}
        try:
            with (
                server.client() as api,
                OpenAIServer(*_said("oolong", 12, 2.5), *_said("mint", 30, 1.75)) as model,
            ):
                body = {"base_url": model.url, "api_key": "no-key"}
                assert api.put("/providers/example", json=body).status_code == 200
                cassette.unlink(missing_ok=True)
                recording = nbformat.from_dict(
                    {
                        **notebook,
                        "cells": [
                            cell
                            for cell in notebook.cells
                            if "replay-only" not in cell.metadata.get("tags", [])
                        ],
                    }
                )
                both = {"KASAL_RECORD": str(cassette), "KASAL_REPLAY": str(cassette)}
                _run(known | both, recording, room)
                assert api.delete("/providers/example").status_code == 204
            for variable in both:
                os.environ.pop(variable)
            _run(known, notebook, NOTEBOOK.parent)
        finally:
            server.close()
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()

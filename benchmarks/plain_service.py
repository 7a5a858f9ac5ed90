"""The plain way to serve a search: FastAPI, and Retriever.search() in its pool of threads.

python -m benchmarks.plain_service GALLERY PORT
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, UploadFile

from retrieval.retriever import Retriever


def make_plain_app(gallery: str) -> FastAPI:
    """One route; FastAPI runs it in a thread, since it is no coroutine."""
    app, retriever = FastAPI(), Retriever(gallery)

    @app.post("/v1/search")
    def search(picture: UploadFile) -> list[dict[str, object]]:
        found = retriever.search(picture.file.read(), k=20)
        return [{"path": str(m.path), "score": m.score, "label": m.label} for m in found]

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    return app


if __name__ == "__main__":
    uvicorn.run(make_plain_app(sys.argv[1]), port=int(sys.argv[2]), log_level="critical")

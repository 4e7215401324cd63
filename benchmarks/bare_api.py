"""The bare framework: FastAPI and uvicorn as `armlift serve` runs them, with handlers that do nothing.

python bare_api.py PORT
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI(docs_url=None, redoc_url=None)


@app.get("/v1/assignments/{unit}")
async def assignments(unit: str) -> dict[str, str]:
    """Answer at once."""
    return {"unit_id": unit}


@app.post("/v1/recommend")
@app.post("/v1/events", status_code=202)
async def take(body: dict[str, Any]) -> dict[str, int]:
    """Take a body and answer at once."""
    return {"accepted": len(body)}


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that it lives."""
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, server_header=False)

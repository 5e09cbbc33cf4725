"""A web service that names what is in a photo.

    uvicorn fastapi_app:app
    curl --data-binary @cat.jpg localhost:8000/classify

Asks the server and model that FEATSERVE_SERVER and FEATSERVE_MODEL name. Needs fastapi and uvicorn.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from featserve_client import AsyncFeatureClient, FeatserveError, InvalidImageError, InvalidRequest


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keeps one client for all requests."""
    async with AsyncFeatureClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request) -> list[dict[str, Any]]:
    """Returns the five likeliest classes of the photo in the request's body."""
    try:
        classes = await request.app.state.client.classify(await request.body())
    except (InvalidImageError, InvalidRequest) as exc:
        raise HTTPException(422, str(exc)) from exc
    except FeatserveError as exc:
        raise HTTPException(503, str(exc)) from exc
    return [asdict(each) for each in classes[0]]

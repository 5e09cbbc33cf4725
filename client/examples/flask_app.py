"""A web service that turns a photo into a vector.

    flask --app flask_app run
    curl --data-binary @cat.jpg localhost:5000/vector

Asks the server and model that FEATSERVE_SERVER and FEATSERVE_MODEL name. Needs flask.
"""

from typing import Any

from featserve_client import FeatserveError, FeatureClient, InvalidImageError, InvalidRequest
from flask import Flask, request

app = Flask(__name__)
#: Connects at the first request, in each worker by itself.
client = FeatureClient()


@app.post("/vector")
def vector() -> Any:
    """Returns the vector of the photo in the request's body."""
    try:
        return client.embed(request.get_data())[0].tolist()
    except (InvalidImageError, InvalidRequest) as exc:
        return {"error": str(exc)}, 422
    except FeatserveError as exc:
        return {"error": str(exc)}, 503

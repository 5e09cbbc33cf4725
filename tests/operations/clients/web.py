"""requests, httpx or aiohttp: REST, by the connection pool of each."""

import asyncio
import gzip
import json
import sys
from pathlib import Path

plan, library = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
model = f"http://{plan['rest']}/v1/models/{plan['model']}"
bodies = {call: Path(plan["bodies"][call]).read_text() for call in ("rows", "columns", "b64")}
#: Call, URL, body, headers.
exchanges = [
    ("status", model, None, {}),
    ("metadata", f"{model}/metadata", None, {}),
    *((call, f"{model}:predict", body.encode(), {}) for call, body in bodies.items()),
    ("gzip", f"{model}:predict", gzip.compress(bodies["rows"].encode()), {"Content-Encoding": "gzip"}),
]


def tell(call, answer):
    print(json.dumps({"call": call, "answer": answer}))


def connections(number):
    tell("keep-alive", f"{number} connection")


def by_requests():
    import requests

    with requests.Session() as session:
        for call, url, body, headers in exchanges:
            answer = session.request("POST" if body else "GET", url, data=body, headers=headers, timeout=60)
            answer.raise_for_status()
            tell(call, answer.json())
        pools = session.get_adapter(model).poolmanager.pools
        connections(sum(pools[key].num_connections for key in pools.keys()))


def by_httpx():
    import httpx

    ports = set()
    with httpx.Client(timeout=60, trust_env=False) as client:
        for call, url, body, headers in exchanges:
            answer = client.request("POST" if body else "GET", url, content=body, headers=headers)
            answer.raise_for_status()
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            tell(call, answer.json())
    connections(len(ports))


async def by_aiohttp():
    import aiohttp

    made = []

    async def count(*_):
        made.append(1)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(count)
    async with aiohttp.ClientSession(trace_configs=[trace], raise_for_status=True) as session:
        for call, url, body, headers in exchanges:
            async with session.request("POST" if body else "GET", url, data=body, headers=headers) as answer:
                tell(call, await answer.json(content_type=None))
    connections(len(made))


if library == "aiohttp":
    asyncio.run(by_aiohttp())
else:
    {"requests": by_requests, "httpx": by_httpx}[library]()

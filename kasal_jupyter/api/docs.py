"""What the server says about its own API: the reference's *Testing* section."""

from __future__ import annotations

import asyncio
from functools import cache

from kasal_jupyter.api.endpoints import endpoints
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.openapi import OpenApi, models_of
from kasal_jupyter.api.operation import Media, operation


class DescriptionHandler(ApiHandler):
    """What the descriptions of the API share."""

    tag = "Testing"

    @property
    def prefix(self) -> str:
        """Where the API is on this server, e.g. ``/user/ada/v1``: all before the request's resource."""
        return self.request.path.removesuffix(self.template)


class OpenApiHandler(DescriptionHandler):
    """``GET /openapi.json``."""

    @operation(
        "Get the OpenAPI document",
        access="anyone",
        answers={200: Media("application/json", "An OpenAPI document of version 3.1.")},
    )
    async def get(self) -> None:
        """Describe every operation of the API, with the schemas of what it takes and answers."""
        self.write_bytes((await openapi()).to_json(self.prefix))


async def openapi() -> OpenApi:
    """Give the OpenAPI document, made when the first asks for it."""
    from kasal_jupyter.api.routes import RESOURCES  # which has the handlers of this module

    # Models are built at their first use. Here, one at a time: to build one in two threads breaks it.
    described = list(endpoints(RESOURCES))
    for model in [each.operation.query for each in described] + [model for model, _ in models_of(described)]:
        if model.model_rebuild():
            await asyncio.sleep(0)
    return await asyncio.to_thread(_openapi)


@cache
def _openapi() -> OpenApi:
    from kasal_jupyter.api.routes import RESOURCES

    return OpenApi(RESOURCES)

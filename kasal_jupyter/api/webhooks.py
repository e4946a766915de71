"""Webhooks: what was delivered of an execution, and the secret that signs."""

from __future__ import annotations

import asyncio

from kasal_jupyter.api.executions import execution_of
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import operation
from kasal_jupyter.errors import NotFound
from kasal_jupyter.schemas.webhooks import WebhookReport, WebhookSecret


class DeliveriesHandler(ApiHandler):
    """``GET /executions/{job_id}/webhooks``."""

    tag = "Execution Management"

    @operation("Get webhook deliveries", access="viewer", answers={200: WebhookReport}, errors=(404,))
    async def get(self, job_id: str) -> None:
        """Say what was delivered of an execution to its crew's webhook, and what could not be.

        404 where the crew had none when it was started.
        """
        await execution_of(self, job_id)
        report = await asyncio.to_thread(self.parts.webhooks.report, job_id)
        if report is None:
            raise NotFound(f"Execution {job_id} has no webhook")
        self.answer(report)


class SecretHandler(ApiHandler):
    """``GET /webhooks/secret``."""

    tag = "Crew Management"

    @operation("Get the webhook secret", access="editor", answers={200: WebhookSecret}, errors=(409,))
    async def get(self) -> None:
        """Give what your crews' webhooks are signed with, as *Standard Webhooks* has it.

        It is made when it is first needed.
        """
        self.answer(await self.parts.webhooks.secrets.of(self.caller.owner))


class RotateHandler(ApiHandler):
    """``POST /webhooks/secret/rotate``."""

    tag = "Crew Management"

    @operation("Rotate the webhook secret", access="editor", answers={200: WebhookSecret})
    async def post(self) -> None:
        """Make a new secret; for 24 hours the one before signs as well."""
        self.answer(await self.parts.webhooks.secrets.rotate(self.caller.owner))

"""An extension of Jupyter's whose one resource fails, and says in its errors all that it was sent."""

from __future__ import annotations

from typing import Any, ClassVar

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import operation
from kasal_jupyter.schemas.users import LoginRequest


class FailingHandler(ApiHandler):
    """``GET`` and ``POST /fail/{name}``."""

    _found: ClassVar[dict[str, str]] = {}

    def initialize(self, kasal: Any) -> None:  # type: ignore[override]
        """Take the parts, which are there by now."""
        super().initialize(kasal.kasal.parts, "/fail/{name}")

    @operation("Fail", access="anyone", answers={204: None})
    async def get(self, name: str) -> None:
        """Fail."""
        self._fail(name)

    @operation("Fail", access="anyone", body=LoginRequest, answers={204: None})
    async def post(self, _: str) -> None:
        """Fail."""
        body = self.body(LoginRequest)
        try:
            self._found[body.password]
        except KeyError as error:
            raise ValueError(f"no such thing: {body!r}") from error

    def _fail(self, name: str) -> None:
        request = self.request
        raise ExceptionGroup(
            f"at {name}",
            [
                RuntimeError(str(request.query_arguments)),
                RuntimeError(str(request.headers)),
                LookupError(self.sent_token()[:20]),
            ],
        )


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    (kasal,) = serverapp.extension_manager.extension_apps["kasal_jupyter"]
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(".*$", [(f"{base}fail/([^/]+)", FailingHandler, {"kasal": kasal})])

"""``/models``: what an agent can be given to think with."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import operation
from kasal_jupyter.models.listing import list_models
from kasal_jupyter.schemas.models import ModelInfo, ModelList, ModelQuery


class ModelsHandler(ApiHandler):
    """``GET /models``."""

    tag = "Model Management"

    @operation("List models", access="viewer", query=ModelQuery, answers={200: ModelList})
    async def get(self) -> None:
        """List models with what they cost, those that can run here and now first; the others say why not.

        `search` looks in names and providers. An OpenAI-compatible server is asked which models it serves, at
        most once a minute; otherwise nobody is asked anything. Models that are not listed run as well, as
        `openai/<model>`.
        """
        query = self.query(ModelQuery)
        text = (query.search or "").casefold()
        models = [
            model
            for model in await list_models(self.parts.runs.catalog.of(self.caller.owner))
            if (query.available is None or model.available == query.available)
            and (query.provider is None or model.provider.casefold() == query.provider.casefold())
            and (text in model.name.casefold() or text in model.provider.casefold())
        ]
        models = _sorted(models, query.sort)
        shown = models[query.offset : query.offset + query.per_page]
        self.answer(ModelList(models=shown, total=len(models), page=query.page, per_page=query.per_page))


def _sorted(models: list[ModelInfo], sort: str) -> list[ModelInfo]:
    """Sort models that come with those that can run first; a price is what a token in and one out cost."""
    descending = sort.startswith("-")
    match sort.removeprefix("-"):
        case "name":
            return sorted(models, key=lambda model: model.name, reverse=descending)
        case "provider":
            return sorted(models, key=lambda model: model.provider, reverse=descending)
        case "price":
            priced = [(model.price.input + model.price.output, model) for model in models if model.price]
            priced.sort(key=lambda pair: pair[0], reverse=descending)
            return [*(model for _, model in priced), *(model for model in models if not model.price)]
        case _:
            return sorted(models, key=lambda model: model.available, reverse=descending)

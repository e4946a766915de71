"""Pages of lists: one model, and a name of its own for the items of each."""

import pytest

from kasal_jupyter.api.routes import RESOURCES
from kasal_jupyter.schemas.base import Listed, ListQuery


def pages():
    """Give every page that is served."""
    assert RESOURCES
    return [model for generic in Listed.__subclasses__() for model in generic.__subclasses__()]


def test_there_are_pages():
    assert len(pages()) >= 14


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.__name__)
def test_a_page_says_by_name_what_its_items_are(page):
    empty = page.of(ListQuery(page=2, per_page=7), [], 3)
    name = page.model_fields["items"].alias
    assert name.endswith("s")
    assert name != "items"
    assert empty.model_dump_json() == f'{{"{name}":[],"total":3,"page":2,"per_page":7}}'
    assert page.model_validate_json(empty.model_dump_json()) == empty

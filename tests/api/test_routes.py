"""Routes: which handler serves which path, and that a request without a body is served like one with it."""

import re

import pytest

from kasal_jupyter.api.routes import served
from tests.sample_crews import crew_body, new_crew

WITHOUT_A_BODY = {}
WITH_ONE_OF_NOTHING = {"Content-Length": "0"}
TYPED = {"Content-Type": "multipart/form-data; boundary=none"}


def test_a_path_that_is_looked_up_would_be_found_first_as_well():
    """Words of a path go before what may stand for any word."""
    paths = list(served())
    for place, (template, expression, _) in enumerate(paths):
        if expression == template:
            before = [each for _, each, _ in paths[:place] if re.fullmatch(each, template)]
            assert not before, f"{template} is served by {before}"


@pytest.mark.parametrize("headers", [WITHOUT_A_BODY, WITH_ONE_OF_NOTHING, TYPED], ids=str)
def test_a_request_is_answered_alike_whatever_it_says_of_a_body(api, headers):
    crew = new_crew(api, crew_body("Alike"))
    listed = api.get("/crews", headers=headers)
    assert crew in [each["id"] for each in listed.json()["crews"]]
    assert api.get(f"/crews/{crew}", headers=headers).json()["name"] == "Alike"
    assert api.get("/crews/crew_000000000000", headers=headers).status_code == 404
    assert api.get("/crews?page=nothing", headers=headers).json()["error"]["code"] == "VALIDATION_ERROR"
    assert api.get("/no/such/thing", headers=headers).status_code == 404
    assert api.patch("/crews", headers=headers).status_code == 405
    assert api.delete(f"/crews/{crew}", headers=headers).status_code == 204


def test_a_body_of_a_request_that_takes_none_is_let_pass(api):
    known = api.get("/crews").json()["total"]
    assert api.request("GET", "/crews", content=b"x" * 100_000).json()["total"] == known
    # The connection goes on.
    assert api.get("/crews").json()["total"] == known

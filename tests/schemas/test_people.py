"""Which calls need a person's leave: rules as they are written, and calls that must not slip through them."""

import pytest

from kasal_jupyter.schemas.people import approval_rule, rule_for

PARAMETERS = {"properties": {"method": {"default": "GET"}, "url": {}}}
REQUEST = {"method": "POST", "url": "https://pay.example.com/orders?ids=1,2"}


@pytest.mark.parametrize(
    ("text", "tool", "arguments"),
    [
        ("http_request", "http_request", {}),
        (" mcp_* ", "mcp_*", {}),
        ("a ( b = 1 , c=2,3 )", "a", {"b": "1", "c": "2,3"}),
        ("a(b=f(x), c=)", "a", {"b": "f(x)", "c": ""}),
        ("a(b=x=y)", "a", {"b": "x=y"}),
    ],
)
def test_a_rule_is_read(text, tool, arguments):
    rule = approval_rule(text)
    assert (rule.tool, rule.arguments) == (tool, arguments)


@pytest.mark.parametrize("text", ["", " ", "(x=1)", "a)", "a(b=1", "a(1)", "a()", "a(b=1) c", "a(,b=1)"])
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(ValueError, match=r"write a tool|is no argument"):
        approval_rule(text)


@pytest.mark.parametrize(
    ("rule", "arguments", "asked"),
    [
        ("http_request", REQUEST, True),
        ("http_*(method=POST)", REQUEST, True),
        ("http_request(method=POST)", {**REQUEST, "method": "post"}, True),
        (
            "http_request(url=https://pay.example.com/*)",
            {**REQUEST, "url": "HTTPS://Pay.Example.com/x"},
            True,
        ),
        ("http_request(url=*ids=[1]*)", {**REQUEST, "url": "https://pay.example.com/?ids=[1]"}, True),
        ("http_request(method=POST)", {"url": "https://pay.example.com"}, False),
        # Nobody knows what it is then.
        ("http_request(url=https://pay.example.com)", {"method": "POST"}, True),
        ("http_request(method=PUT)", REQUEST, False),
        ("sql_query", REQUEST, False),
    ],
)
def test_a_call_needs_leave_where_a_rule_fits_it(rule, arguments, asked):
    found = rule_for(["wait", rule], "http_request", arguments, PARAMETERS)
    assert found == (rule if asked else None)

"""Names of crews, agents and tasks as Python takes them."""

import keyword

import pytest

from kasal_jupyter.formats.crewai_export import class_name, identifiers, package_name


def names(*given, kind="agent"):
    return list(identifiers(given, kind=kind, taken=set()).values())


def test_an_identifier_is_as_near_to_the_name_as_can_be():
    assert names("writer", "Content Writer", "作家", "naïve", "x.y[0]") == [
        *("writer", "content_writer", "作家", "naïve", "x_y_0")
    ]


def test_two_names_that_look_alike_stay_two():
    assert names("Writer", "writer", "WRITER!") == ["writer", "writer_2", "writer_3"]


@pytest.mark.parametrize(
    "name", ["agent", "task", "llm", "crew", "agents", "class", "match", "yes", "on", "12", "~", "💡"]
)
@pytest.mark.parametrize("kind", ["agent", "task"])
def test_no_method_takes_the_place_of_what_a_crews_class_needs(name, kind):
    (made,) = names(name, kind=kind)
    assert made.isidentifier()
    assert not keyword.iskeyword(made)
    assert made not in {"agent", "task", "llm", "crew", "agents", "tasks", "yes", "on"}


def test_python_finds_a_method_by_the_name_that_is_written():
    """It reads identifiers in the form NFKC, in which ﬁ is two letters and ² a 2."""
    assert names("ﬁne", "m²") == ["fine", "m2"]


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("Market research", "market_research_crew"),
        ("crewai", "crewai_crew"),
        ("json", "json_crew"),
        ("Tea crew", "tea_crew"),
        ("Ünïcode", "unicode_crew"),
        ("日本", "crew_crew"),
        ("3 wishes", "crew_3_wishes_crew"),
    ],
)
def test_a_package_is_none_that_there_is(name, package):
    assert package_name(name) == package
    assert class_name(package).isidentifier()

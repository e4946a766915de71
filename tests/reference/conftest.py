import pytest

from tests.reference.examples import examples
from tests.reference.world import a_world


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """A world in which all of the reference's examples have been played, in its order."""
    with a_world(tmp_path_factory.mktemp("reference")) as made:
        made.played = [made.play(example) for example in examples()]
        yield made

from kasal_jupyter.store.layer import Layer, Overlay
from kasal_jupyter.store.rows import Rows, select


class Committed:
    """Two rows of one table, as the committed tables are."""

    def __init__(self):
        self.notes = Rows(("owner",))
        self.notes.present = True
        self.notes.put(1, b"one", ("ada",))
        self.notes.put(2, b"two", ("ada",))

    def reader(self, name):
        return self.notes if name == "notes" else Rows()

    def names(self):
        return ["notes"]


def contents(table):
    return {doc_id: table.body(doc_id) for doc_id in table.ids()}


def test_changes_are_seen_through_the_layer_alone():
    committed = Committed()
    layer = Layer(committed)
    notes = layer.writer("notes")
    notes.put(2, b"TWO", ("bob",))
    notes.put(3, b"three", ("ada",))
    notes.remove(1)

    assert contents(layer.reader("notes")) == {2: b"TWO", 3: b"three"}
    assert len(layer.reader("notes")) == 2
    assert list(select(notes, {"owner": "ada"})) == [3]
    assert list(select(notes, {"owner": "bob"})) == [2]
    assert contents(committed.notes) == {1: b"one", 2: b"two"}


def test_layers_lie_over_layers_and_are_applied_in_turn():
    committed = Committed()
    group = Layer(committed)
    group.writer("notes").put(3, b"three", ("ada",))
    work = Layer(group)
    work.writer("notes").remove(3)
    work.writer("notes").put(1, b"ONE", ("ada",))
    assert contents(work.reader("notes")) == {1: b"ONE", 2: b"two"}

    for name, overlay in work:
        overlay.apply(group.writer(name))
    assert contents(group.reader("notes")) == {1: b"ONE", 2: b"two"}
    # Row 3 never was in the committed table, so there is no deletion to write.
    assert group.writer("notes").removed() == []

    group.writer("notes").apply(committed.notes)
    assert contents(committed.notes) == {1: b"ONE", 2: b"two"}


def test_a_cleared_table_starts_anew():
    overlay = Overlay(Committed().notes)
    overlay.clear()
    assert (len(overlay), overlay.last_id, overlay.body(1)) == (0, 0, None)
    overlay.put(1, b"new", ("ada",))
    assert contents(overlay) == {1: b"new"}
    assert len(overlay) == 1


def test_a_dropped_table_is_gone_and_can_come_back():
    layer = Layer(Committed())
    layer.writer("notes").drop()
    assert layer.names() == []
    layer.writer("notes").put(1, b"again", ("ada",))
    assert layer.names() == ["notes"]


def test_nothing_changed_is_nothing_to_write():
    layer = Layer(Committed())
    layer.writer("notes").remove(99)
    layer.reader("other")
    assert list(layer) == []

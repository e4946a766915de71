"""Looking up in a table of TinyDB's, as the repositories do."""

from kasal_jupyter.store.rows import Rows


def ids(table, criteria):
    """Give the ids of the documents that have all of the values."""
    rows = Rows(table.storage.engine, table.name)
    return rows.ids(rows.having(criteria))


def count(table, criteria):
    """Count them."""
    rows = Rows(table.storage.engine, table.name)
    return rows.count(rows.having(criteria))

"""SQL on the files that a run's tools can read, by DuckDB, which sees those that a statement names alone."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from kasal_jupyter.tools.confined_sql import ask_files
from kasal_jupyter.tools.tool import Tool, ToolContext, always
from kasal_jupyter.tools.workspace import Workspace

if TYPE_CHECKING:
    from kasal_jupyter.schemas.spec import RunToolSettings


def _unavailable(_settings: RunToolSettings) -> str | None:
    if importlib.util.find_spec("duckdb") is None:
        return 'sql_query needs DuckDB: pip install "kasal-jupyter[sql]"'
    return None


def _run(context: ToolContext, statement: str) -> str:
    return ask_files(statement, Workspace.of(context))


TOOL = Tool(
    name="sql_query",
    description="Runs a SELECT statement of DuckDB's SQL on CSV, Parquet and JSON files, and gives the rows "
    "as a table. A file is named like a table, by its path in quotes: SELECT * FROM 'sales.csv' LIMIT 5. "
    "DESCRIBE 'sales.csv' and SUMMARIZE 'sales.csv' tell its columns.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "statement": {
                "type": "string",
                "description": "One SELECT statement.",
                "minLength": 1,
                "maxLength": 20_000,
                "examples": ["SELECT 6 * 7 AS answer"],
            }
        },
        "required": ["statement"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
    unavailable=_unavailable,
)

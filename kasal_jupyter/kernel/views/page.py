"""A trace as a file of its own: one HTML page that needs nothing else, not even scripts."""

from __future__ import annotations

import os
from pathlib import Path

from kasal_jupyter.events.trace import Trace
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.view_html import render_html
from kasal_jupyter.whole_file import write_whole

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --jp-layout-color0: #ffffff; --jp-content-font-color1: #212121;
  --jp-error-color1: #d32f2f; --jp-success-color1: #2a8c3f; --jp-brand-color1: #3b5bdb;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --jp-layout-color0: #161616; --jp-content-font-color1: #ececec;
    --jp-error-color1: #ff6b61; --jp-success-color1: #4caf50; --jp-brand-color1: #7f97ff;
  }}
}}
body {{ margin: 24px auto; max-width: 1112px; padding: 0 16px; background: var(--jp-layout-color0); }}
summary:focus-visible {{ outline: 2px solid #4a6cf7; outline-offset: -2px; border-radius: 3px; }}
@media print {{ pre {{ max-height: none !important; }} }}
</style>
</head>
<body>
{trace}
</body>
</html>
"""
"""The policy lets nothing run and nothing be fetched, should a foreign text ever get through as HTML."""


def save_page(trace: Trace, path: str | os.PathLike[str]) -> Path:
    """Write a trace, whole, as an HTML page.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    CellError
        It could not be written there.
    """
    place = Path(path).expanduser()
    title = escape(f"{one_line(trace.summary.crew_name, 120) or 'Crew'} · {trace.summary.status}")
    page = _PAGE.format(title=title, trace=render_html(trace, whole=True))
    try:
        write_whole(place, page.encode())
    except OSError as error:
        raise CellError(f"The trace cannot be written to {place}: {error.strerror or error}") from error
    return place

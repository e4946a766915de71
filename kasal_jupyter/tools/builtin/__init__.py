"""The built-in tools, one a module; each module gives its ``TOOL``.

A new tool is a new module here, nothing else.
"""

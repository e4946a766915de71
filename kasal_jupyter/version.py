"""The version, where every room may read it: the package itself knows the extension and the magics."""

__version__ = "0.1.0"

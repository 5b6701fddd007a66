"""Docstrings of files that are read and not executed, as importing one may take seconds."""

import ast


def first_sentence(code: ast.Module | ast.FunctionDef) -> str:
    """The first sentence of the docstring of a config, a variant or an app, without a command in it and its full stop."""
    return (ast.get_docstring(code) or "").partition("\n")[0].partition(": python launch/")[0].rstrip(".")

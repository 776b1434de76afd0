"""Renders a report as one HTML page, without scripts and without other files to load.

The templates escape all data; nothing is marked as safe. The page's content security policy allows only the page's own
style sheet, by hash.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ecellm_lite.errors import UsageError
from ecellm_lite.report.shown import FILTERS

if TYPE_CHECKING:
    from jinja2 import Environment


def check(package: str) -> None:
    """Raise UsageError if jinja2 is not installed. Call this early, before the long work that the report is about.

    `package`: the package that has the report's templates.
    """
    _environment(package)


def render(package: str, template: str, **values: Any) -> str:
    """Fill in a template and return the page. Raises UsageError if jinja2 is not installed.

    The template is a file of `package`, or of ecellm_lite.report. Templates extend `base.html`, which has the page's
    head and style.
    """
    environment = _environment(package)
    style = environment.get_template("style.css").render()
    return environment.get_template(template).render(policy=_policy(style), **values)


@cache
def _environment(package: str) -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise UsageError("A report needs jinja2", step="run `pip install 'ecellm-lite[eval]'`") from None
    folders = [files(name) / "templates" for name in (package, __package__)]

    def load(name: str) -> str | None:
        texts = (folder / name for folder in folders)
        return next((text.read_text("utf-8") for text in texts if text.is_file()), None)

    environment = Environment(loader=FunctionLoader(load), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(FILTERS)
    return environment


def _policy(style: str) -> str:
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"

"""A page of a template, in the frame that all pages have, as one file that needs no network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from finecorr.files import replacing


def write_html(path: Path, package: str, template: str, **values: Any) -> None:
    """Writes it.

    Args:
        path: of the file.
        package: in which the template is, which extends `frame.html`.
        template: its name.
        values: what it shows: a `title`, and what it names.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, "") for name in (package, __package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # JSON has no NaN: the page would not open.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    folder = files(__package__)
    html = environment.get_template(template).render(
        **values,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        theme=(folder / "theme.js").read_text(encoding="utf-8"),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")

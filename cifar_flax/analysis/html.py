"""Self-contained HTML pages by Jinja2, with autoescaping because class names come from users."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cifar_flax.analysis.figures import percent
from cifar_flax.files.atomic import write_text


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Renders `templates/TEMPLATE` with `values`, writes it to `path` and returns `path`."""
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    write_text(path, environment.get_template(template).render(values))
    return path

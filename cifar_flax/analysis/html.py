"""HTML pages that need nothing but themselves, through Jinja2 with everything escaped: class names are users'."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cifar_flax.analysis.figures import percent
from cifar_flax.files.atomic import write_text


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fills in `templates/TEMPLATE` and writes it to `path`, which is returned."""
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    write_text(path, environment.get_template(template).render(values))
    return path

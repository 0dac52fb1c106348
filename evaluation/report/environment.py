"""The templates of pages."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment() -> Environment:
    """Returns the environment that renders the templates in `templates`."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    # Autoescape is on because results hold text from outside, such as errors and paths. jinja2 switches it on by itself
    # only for templates whose name ends in .html.
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return found

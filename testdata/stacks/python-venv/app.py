"""Renders the greeting for the names that it is given."""

import pathlib
import sys

import jinja2

templates = jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates")
environment = jinja2.Environment(loader=templates, autoescape=True)
print(environment.get_template("greeting.html").render(names=sys.argv[1:]))

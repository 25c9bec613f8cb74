"""Write a package with a plugin that runs at once, to be changed into one's own."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template

from omniloop.core import registry
from omniloop.core.errors import ConfigError, nearest
from omniloop.runlog.files import usable

_FILES = {
    "policy": {
        "pyproject.toml": "pyproject.toml.tmpl",
        "README.md": "README.md.tmpl",
        "{module}/__init__.py": "policy.py.tmpl",
        "suite.yaml": "suite.yaml.tmpl",
        "tests/test_{module}.py": "test_policy.py.tmpl",
    }
}
"""Kind of plugin to the files of its package, each with its template."""


def write_package(kind: str, name: str, folder: Path) -> list[str]:
    """Write the package and return what to do with it, a line each.

    Raises:
        ConfigError: the kind has no template, the name cannot be one or is taken, or the
            folder holds something.
        RunFolderError: the folder cannot be written.
    """
    if kind not in _FILES:
        raise ConfigError(
            f"no package can be written for a {kind}.{nearest(kind, _FILES)}",
            where=f"plugins new {kind}", remedy=f"known: {', '.join(_FILES)}",
        )  # fmt: skip
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"'{name}' cannot name a {kind}", where="plugins new",
            remedy="use small letters, digits and _, beginning with a letter: my_driver",
        )  # fmt: skip
    if name in registry.available(kind):
        raise ConfigError(
            f"there is a {kind} called '{name}' ({registry.available(kind)[name]})",
            where="plugins new", remedy="choose another name",
        )  # fmt: skip
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            "it is not an empty folder", where=str(folder), remedy="name a new or empty folder"
        )
    words = {
        "name": name,
        "module": f"{name}_{kind}",
        "cls": "".join(part.capitalize() for part in name.split("_")) + kind.capitalize(),
        "distribution": f"omniloop-{name.replace('_', '-')}",
    }
    templates = resources.files("omniloop.cli") / "templates" / kind
    for target, template in _FILES[kind].items():
        path = folder / target.format(**words)
        with usable(path, "written", "choose a writable folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (templates / template).read_text("utf-8")
            path.write_text(Template(text).substitute(words), "utf-8")
    return [
        f"written: {folder}",
        f"try it:  cd {folder} && omniloop run policy={words['module']}:{words['cls']}",
        f"install: pip install -e {folder}, then policy={name}",
        f"check:   omniloop plugins check {name}",
    ]

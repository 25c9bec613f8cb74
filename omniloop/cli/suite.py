"""`omniloop suite list|show|diff`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown",
    help="Suites: scenes, seeds, edits, metrics and settings that are run as one.",
)  # fmt: skip

SuiteName = Annotated[str, typer.Argument(metavar="NAME|FILE.yaml", help="A suite.")]
Side = Annotated[
    str, typer.Argument(metavar="NAME|FILE.yaml|RUN", help="A suite, or a run of one.")
]


@app.command("list")
def list_suites() -> None:
    """Print the suites that come with the package.

    **Example**

        omniloop suite list
    """
    from omniloop.configs.suite import read_suite, suite_names

    for name in suite_names():
        suite = read_suite(name)
        typer.echo(f"{name:<15} version {suite.head.version}  {suite.head.description}")


@app.command()
def show(
    name: SuiteName,
    as_json: Annotated[
        bool, typer.Option("--json", help="As one JSON document, every hash in full.")
    ] = False,
    as_file: Annotated[
        bool, typer.Option("--file", help="As its file says it, such as for a copy of your own.")
    ] = False,
) -> None:
    """Load the scenes of a suite and print what it comes to, with its content hash.

    **Examples**

        omniloop suite show smoke
        omniloop suite show my_suite.yaml --json
        omniloop suite show smoke --file > my_suite.yaml
    """
    from omniloop.configs.compose import compose
    from omniloop.configs.suite import suite_text
    from omniloop.runlog.environment import describe_environment
    from omniloop.runner.suite import deciding_versions, load_suite

    if as_file:
        typer.echo(suite_text(name), nl=False)
        return
    document = load_suite(compose([f"suite={name}"])).document()
    versions = deciding_versions(describe_environment())
    if as_json:
        import json

        typer.echo(json.dumps({**document, "versions": versions}, indent=2))
        return
    for line in _lines(document, versions):
        typer.echo(line)


@app.command()
def diff(first: Side, second: Side) -> None:
    """Print what differs between two suites. Exit 0 if their content is the same, else 1.

    **Examples**

        omniloop suite diff smoke my_suite.yaml
        omniloop suite diff runs/a runs/b
    """
    from omniloop.runner.suite_diff import read_side, suite_differences

    sides = [read_side(name) for name in (first, second)]
    for line in suite_differences(*sides):
        typer.echo(line)
    hashes = [side.document["sha256"] for side in sides]
    if hashes[0] == hashes[1]:
        typer.echo(f"the same content: {hashes[0]}")
        return
    for side, sha256 in zip(sides, hashes, strict=True):
        typer.echo(f"{sha256}  {side.label}")
    raise typer.Exit(1)


def _lines(document: dict[str, Any], versions: dict[str, str]) -> list[str]:
    content = document["content"]
    lines = [
        f"{document['name']}, version {document['version']}: {document['description']}",
        f"sha256: {document['sha256']}",
        f"scenes: {len(content['scenes'])}",
    ]
    width = max(map(len, content["scenes"]))
    for scene_id, scene in content["scenes"].items():
        what = scene["sha256"][:12] if scene["sha256"] else "an edit does not fit it"
        lines.append(f"  {scene_id:<{width}}  {what}")
        lines += [f"  {'':<{width}}  edit: {line}" for line in scene["edits"]]
    lines.append(f"seeds: {', '.join(map(str, content['seeds']))}")
    lines.append("metrics:")
    for metric, settings in content["metrics"].items():
        shown = ", ".join(f"{key}={value}" for key, value in settings.items())
        lines.append(f"  {metric}: {shown}" if shown else f"  {metric}")
    lines.append("settings:" if content["settings"] else "settings: none")
    lines += [f"  {key}: {value}" for key, value in content["settings"].items()]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [*lines, f"resolved with: {packages}"]

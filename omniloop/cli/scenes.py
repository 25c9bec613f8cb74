"""`omniloop scenes list|show|validate|convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, help="List, draw, check and convert scenes.", rich_markup_mode="markdown"
)

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="scenes=SOURCE scenes.path=FOLDER scenes.ids=A,B scenes.limit=N"
    ),
]


def _chosen(settings: list[str] | None) -> tuple[Any, list[str]]:
    from omniloop.configs.compose import compose
    from omniloop.runner.assemble import chosen_ids, open_source

    config = compose(settings or []).scenes
    source = open_source(config)
    return source, chosen_ids(config, source)


@app.command("list")
def list_scenes(settings: Settings = None) -> None:
    """Print the ids of a source's scenes, one a line.

    **Example**

        omniloop scenes list scenes=commonroad scenes.path=DIR
    """
    for scene_id in _chosen(settings)[1]:
        typer.echo(scene_id)


@app.command()
def show(
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("."),
) -> None:
    """Say what is in each scene and draw it as a picture.

    **Example**

        omniloop scenes show scenes=av2 scenes.path=DIR --out pictures
    """
    from omniloop.core.errors import RunFolderError
    from omniloop.report.scene_picture import draw_scene

    source, ids = _chosen(settings)
    for scene_id in ids:
        scene = source.load(scene_id)
        path = out / f"{scene_id}.png"
        try:
            out.mkdir(parents=True, exist_ok=True)
            draw_scene(scene, path)
        except OSError as error:
            raise RunFolderError(
                f"cannot write {path}: {error.strerror}", remedy="choose another --out"
            ) from error
        seconds = (scene.end_us - scene.start_us) / 1e6
        parts = {
            "lanes": len(scene.map.lanes), "drivable areas": len(scene.map.drivable_areas),
            "crosswalks": len(scene.map.crosswalks), "actors": len(scene.tracks),
            "cameras": len(scene.cameras), "first frames": len(scene.first_frames),
        }  # fmt: skip
        facts = ", ".join(f"{count} {name}" for name, count in parts.items())
        heights = "ground heights" if scene.ground is not None else "no ground heights"
        typer.echo(f"{scene_id}: {scene.source}, {seconds:.1f} s, {facts}, {heights} -> {path}")


@app.command()
def validate(settings: Settings = None) -> None:
    """Check scenes: geometry, gaps, overlaps with ego, map coverage. Exit 2 on an error.

    **Example**

        omniloop scenes validate scenes=nuscenes scenes.path=DIR
    """
    from omniloop.core.errors import SceneError
    from omniloop.scenes.validate import validate_scene

    source, ids = _chosen(settings)
    counts = {"error": 0, "warning": 0, "info": 0}
    for scene_id in ids:
        try:
            findings = validate_scene(source.load(scene_id))
        except SceneError as error:
            typer.echo(f"{scene_id}: error: {error}")
            counts["error"] += 1
            continue
        if not findings:
            typer.echo(f"{scene_id}: sound")
        for finding in findings:
            counts[finding.severity] += 1
            typer.echo(f"{scene_id}: {finding.severity}: {finding.where}: {finding.what}")
            if finding.remedy and finding.severity != "info":
                typer.echo(f"  remedy: {finding.remedy}")
    typer.echo(f"{len(ids)} scene(s): {counts['error']} error(s), {counts['warning']} warning(s)")
    raise typer.Exit(2 if counts["error"] else 0)


@app.command()
def convert(
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder for the bundles.")] = Path("bundles"),
) -> None:
    """Write scenes as native bundles: one zip of parquet and JSON each.

    A run reads them with `scenes=native`.

    **Example**

        omniloop scenes convert scenes=av2 scenes.path=DIR --out bundles
        omniloop run scenes=native scenes.path=bundles
    """
    from omniloop.scenes.native import write_bundle

    source, ids = _chosen(settings)
    for scene_id in ids:
        path = out / f"{scene_id}.zip"
        write_bundle(source.load(scene_id), path)
        typer.echo(str(path))

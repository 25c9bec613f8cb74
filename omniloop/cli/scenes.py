"""`omniloop scenes list|show|validate|convert|mesh|recipes|vary`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from omniloop.core.errors import SceneError

app = typer.Typer(
    no_args_is_help=True, help="List, draw, check and convert scenes.", rich_markup_mode="markdown"
)

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="scenes=SOURCE scenes.path=FOLDER scenes.ids=A,B scenes.limit=N scenes.edit=FILE,recipe:NAME",
    ),
]


def _chosen(settings: list[str] | None) -> tuple[Any, list[str]]:
    from omniloop.configs.compose import compose
    from omniloop.runner.assemble import chosen_ids, open_source

    config = compose(settings or []).scenes
    source = open_source(config)
    return source, chosen_ids(config, source)


def _each(source: Any, ids: list[str], use: Callable[[str, Any], None]) -> None:
    """Use every scene; of several, one that is damaged or that its edits do not fit is said.

    Args:
        use: Takes a scene's id and the scene.

    Raises:
        SceneError: there is no other scene.
        Exit: one is damaged; edits that do not fit count as wished.
    """
    from omniloop.core.errors import SceneError

    errors: dict[str, SceneError] = {}
    for scene_id in ids:
        try:
            use(scene_id, source.load(scene_id))
        except SceneError as error:
            errors[scene_id] = error
            if len(ids) > 1:
                _say_skipped(scene_id, error)
    _conclude(errors, len(ids))


def _say_skipped(scene_id: str, error: SceneError) -> None:
    from omniloop.scenes.edits.apply import EditRefused

    refused = isinstance(error, EditRefused)
    place = "" if refused or not error.where else f" ({error.where})"
    typer.echo(f"skipped {scene_id}: {error.what}{place}", err=not refused)


def _conclude(errors: Mapping[str, SceneError], count: int) -> None:
    """Name the damaged scenes of `count`.

    Raises:
        SceneError: there is no other scene.
        Exit: one is damaged; edits that do not fit count as wished.
    """
    from omniloop.scenes.edits.apply import EditRefused
    from omniloop.scenes.findings import some

    if len(errors) == count:
        raise next(iter(errors.values()))
    damaged = [name for name, error in errors.items() if not isinstance(error, EditRefused)]
    if damaged:
        typer.echo(
            f"{len(damaged)} of {count} scenes cannot be used: {some(damaged, 20)}", err=True
        )
        raise typer.Exit(2)


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
    at: Annotated[
        float | None,
        typer.Option(help="Draw this instant, in seconds after the start, instead of the whole."),
    ] = None,
) -> None:
    """Say what is in each scene and what was edited, and draw it as a picture.

    **Examples**

        omniloop scenes show scenes=av2 scenes.path=DIR --out pictures

        omniloop scenes show scenes.ids=curve scenes.edit=recipe:cut_in --at 5 --out pictures
    """
    from omniloop.core.errors import ConfigError, RunFolderError
    from omniloop.report.scene_moment import draw_moment
    from omniloop.report.scene_picture import draw_scene

    if at is not None and not (math.isfinite(at) and at >= 0):
        raise ConfigError(
            f"an instant of {at} s", where=f"--at {at}", remedy="give seconds after the start"
        )
    source, ids = _chosen(settings)

    def draw(scene_id: str, scene: Any) -> None:
        path = out / f"{scene_id}.png"
        try:
            out.mkdir(parents=True, exist_ok=True)
            if at is None:
                draw_scene(scene, path)
            else:
                unedited = getattr(source, "unedited", None)
                draw_moment(scene, at, path, unedited.load(scene_id) if unedited else None)
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
        for line in scene.edits:
            typer.echo(f"  edit: {line}")

    _each(source, ids, draw)


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


class Bundle(StrEnum):
    """Formats that scenes are written in."""

    native = "native"
    usdz = "usdz"


@app.command()
def convert(
    settings: Settings = None,
    to: Annotated[
        Bundle, typer.Option(help="native: parquet and JSON; usdz: what AlpaSim reads.")
    ] = Bundle.native,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="With usdz: AlpaSim's members alone, which lose some."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the bundles.")] = Path("bundles"),
) -> None:
    """Write scenes as native bundles or as USDZ archives, one file each.

    A run reads them with `scenes=native` or `scenes=usdz`. An archive that is made of an
    archive keeps its other members, such as checkpoints.

    **Example**

        omniloop scenes convert scenes=av2 scenes.path=DIR --out bundles
        omniloop run scenes=native scenes.path=bundles

        omniloop scenes convert scenes=av2 scenes.path=DIR --to usdz --out archives
        omniloop run scenes=usdz scenes.path=archives
    """
    from omniloop.core.errors import ConfigError
    from omniloop.scenes.native import write_bundle
    from omniloop.scenes.usdz_write import write_usdz

    if plain and to is not Bundle.usdz:
        raise ConfigError(
            "native bundles have no plain form", where="--plain", remedy="add --to usdz"
        )
    source, ids = _chosen(settings)
    file_of = getattr(getattr(source, "unedited", source), "file_of", None)

    def write(scene_id: str, scene: Any) -> None:
        if to is Bundle.native:
            path = write_bundle(scene, out / f"{scene_id}.zip")
        else:
            old = file_of(scene_id) if file_of is not None else None
            path = out / f"{scene_id}.usdz"
            write_usdz(scene, path, exact=not plain, keep_from=old)
        typer.echo(str(path))

    _each(source, ids, write)


@app.command()
def mesh(
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder for the meshes.")] = Path("meshes"),
) -> None:
    """Write the ground heights of scenes as triangle meshes: one PLY each, in `local`.

    **Example**

        omniloop scenes mesh scenes=av2 scenes.path=DIR --out meshes
        omniloop run scenes=av2 scenes.path=DIR ground=mesh ground.path=meshes/{scene}.ply
    """
    from omniloop.core.errors import RunFolderError, SceneError
    from omniloop.scenes.height_raster import raster_mesh
    from omniloop.scenes.ply import write_ply

    source, ids = _chosen(settings)

    def write(scene_id: str, scene: Any) -> None:
        raster, path = scene.ground, out / f"{scene_id}.ply"
        if raster is None:
            raise SceneError(
                "the scene has no ground heights", where=f"scene {scene_id}",
                remedy="choose scenes that have with scenes.ids=A,B; `omniloop scenes show` says which",
            )  # fmt: skip
        vertices, triangles = raster_mesh(raster)
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_ply(path, vertices, triangles)
        except OSError as error:
            raise RunFolderError(
                f"cannot write {path}: {error.strerror}", remedy="choose another --out"
            ) from error
        typer.echo(f"{path}: {len(triangles)} triangles")

    _each(source, ids, write)


@app.command()
def recipes() -> None:
    """Print the recipes that come with the package, with their parameters.

    **Example**

        omniloop run scenes.edit=recipe:cut_in scenes.set.gap_s=0.5
    """
    from omniloop.scenes.edits.files import RECIPE_PREFIX, read_edit_file, recipe_names

    for name in recipe_names():
        file = read_edit_file(RECIPE_PREFIX + name)
        typer.echo(f"{RECIPE_PREFIX}{name}: {file.description}")
        for key, parameter in file.parameters.items():
            default = "null" if parameter.default is None else parameter.default
            span = ""
            if parameter.range is not None:
                span = f" ({parameter.range[0]:g} to {parameter.range[1]:g})"
            elif parameter.choices is not None:
                span = f" ({', '.join(map(str, parameter.choices))})"
            typer.echo(f"    {key}={default}{span}" + (f": {parameter.help}" if parameter.help else ""))  # fmt: skip


@app.command()
def vary(
    settings: Settings = None,
    edit: Annotated[
        str, typer.Option(help="Edit file, or recipe:NAME (`omniloop scenes recipes` lists them).")
    ] = "",
    vary: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LOW:HIGH:COUNT, NAME=A,B,C or NAME (its own range); repeat it."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Draw so many instead of the whole grid.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the bundles.")] = Path("family"),
) -> None:
    """Write a family of scenes: one recipe at many values of its parameters.

    Each variant is a native bundle `<scene>-<recipe>-<n>.zip`; `family.csv` lists all with
    their values, and why some were refused. Without `--vary` samples vary every parameter
    that has a range. A damaged scene is left out and named; the others are written, and the
    exit code is 2.

    **Examples**

        omniloop scenes vary scenes.ids=curve --edit recipe:cut_in --vary gap_s=0.5:2.0:4 --out family

        omniloop scenes vary scenes.ids=curve --edit recipe:jaywalk --sample 20 --seed 1 --out family

        omniloop run scenes=native scenes.path=family
    """
    from omniloop.configs.compose import compose
    from omniloop.core.errors import ConfigError
    from omniloop.runner.assemble import chosen_ids, open_source
    from omniloop.scenes.edits.files import read_edit_file
    from omniloop.scenes.edits.vary import check_axes, grid, parse_axis, samples, write_family

    if not edit:
        raise ConfigError(
            "nothing to vary", where="--edit", remedy="give --edit FILE.yaml or --edit recipe:NAME"
        )
    config = compose(settings or []).scenes
    file = read_edit_file(edit)
    fixed = config.set
    source = open_source(config.model_copy(update={"set": {}}))
    ids = chosen_ids(config, source)
    names = vary or [
        name for name, p in file.parameters.items()
        if sample and p.range is not None and p.default is not None and name not in fixed
    ]  # fmt: skip
    if not names:
        raise ConfigError(
            "no parameter to vary", where=f"--edit {edit}",
            remedy=f"give --vary NAME=...; its parameters: {', '.join(file.parameters) or 'none'}",
        )  # fmt: skip
    axes = [parse_axis(text, file, sampling=sample is not None) for text in names]
    check_axes(axes, fixed)
    rows = list(grid(axes)) if sample is None else samples(axes, sample, seed, file.name)
    skipped, damaged = 0, {}
    for variant in write_family(source, ids, file, rows, out, fixed=fixed):
        skipped += bool(variant.skipped)
        if variant.error is None and variant.skipped:
            typer.echo(f"skipped {variant.id}: {variant.skipped}")
        elif variant.error is not None and variant.scene not in damaged:
            damaged[variant.scene] = variant.error
            if len(ids) > 1:
                _say_skipped(variant.scene, variant.error)
    total = len(ids) * len(rows)
    typer.echo(f"{total - skipped} scene(s) into {out}, {skipped} skipped; family.csv lists all")
    _conclude(damaged, len(ids))
    if skipped == total:
        raise typer.Exit(2)

"""Families of scenes: one recipe at many values of its parameters."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from omniloop.core.contracts import SceneSource
from omniloop.core.errors import ConfigError, SceneError, nearest
from omniloop.core.scene import Scene
from omniloop.core.seeds import generator
from omniloop.scenes.build import safe_id
from omniloop.scenes.edits.apply import apply_edits
from omniloop.scenes.edits.files import EditFile, check_choice
from omniloop.scenes.native import write_bundle

FAMILY_CSV = "family.csv"
_GRID_COUNT = 3
_DIGITS = 6
"""Values are rounded to so many significant digits: they are read by people, and in ids."""
_MOST = 100_000
"""Variants of one scene: more are a typing error."""


@dataclass(frozen=True)
class Axis:
    """Values of one parameter.

    Attributes:
        values: Those of a grid, or of which samples choose; empty for a range.
        low, high: Ends of a range.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Variant:
    """One member of a family.

    Attributes:
        id: ``<scene>-<recipe>-<n>``.
        skipped: Why it was refused; empty if it was written.
        error: Why its scene cannot be loaded; None if it can.
    """

    id: str
    scene: str
    values: Mapping[str, Any]
    skipped: str = ""
    error: SceneError | None = None


def parse_axis(text: str, file: EditFile, *, sampling: bool) -> Axis:
    """Read ``name=low:high:count``, ``name=a,b,c``, ``name=low:high`` or ``name``.

    A name alone stands for the parameter's own range or choices; a grid takes 3 values
    of a range that has no count.

    Raises:
        ConfigError: an unknown parameter, or values that cannot be read or are not allowed, or
            too many.
    """
    name, separator, given = text.partition("=")
    name = name.strip()
    where = f"--vary {text}"
    if name not in file.parameters:
        raise ConfigError(
            f"'{file.where}' has no parameter '{name}'.{nearest(name, file.parameters)}",
            where=where, remedy=f"its parameters: {', '.join(file.parameters) or 'none'}",
        )  # fmt: skip
    parameter = file.parameters[name]
    if not separator:
        if parameter.choices is not None:
            return Axis(name, tuple(parameter.choices))
        if parameter.range is None:
            raise ConfigError(
                f"'{name}' declares no range", where=where,
                remedy=f"give one: --vary {name}=LOW:HIGH:COUNT or --vary {name}=A,B,C",
            )  # fmt: skip
        return _span(name, *parameter.range, None, sampling)
    parts = given.split(":")
    try:
        if len(parts) in (2, 3):
            low, high = float(parts[0]), float(parts[1])
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(given)
            count = int(parts[2]) if len(parts) == 3 else None
            axis = _span(name, low, high, count, sampling)
        else:
            values = tuple(_scalar(v.strip()) for v in given.split(",") if v.strip())
            if parameter.range is not None and any(isinstance(v, str) for v in values):
                raise ValueError(given)
            if any(isinstance(v, float) and not math.isfinite(v) for v in values):
                raise ValueError(given)
            axis = Axis(name, values)
    except ValueError:
        axis = Axis(name)
    if not axis.values and not axis.low < axis.high:
        raise ConfigError(
            f"'{given}' are no values", where=where,
            remedy=f"write {name}=0.5:2.0:4 (from, to, how many), {name}=0.5:2.0 or {name}=1,2,3",
        )  # fmt: skip
    for value in axis.values:
        check_choice(parameter, name, value, file.where)
    return axis


def _span(name: str, low: float, high: float, count: int | None, sampling: bool) -> Axis:
    if sampling and count is None:
        return Axis(name, (), low, high)
    number = _GRID_COUNT if count is None else count
    if number < 1:
        raise ValueError(number)
    _check_count(number, f"--vary {name}")
    return Axis(name, tuple(_rounded(v) for v in np.linspace(low, high, number).tolist()))


def _scalar(text: str) -> Any:
    if text in ("null", "None"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _check_count(count: int, where: str) -> None:
    if count > _MOST:
        raise ConfigError(
            f"a family of {count:,} variants of each scene", where=where,
            remedy=f"give at most {_MOST:,}: fewer values, or --sample",
        )  # fmt: skip


def check_axes(axes: Sequence[Axis], fixed: Mapping[str, Any]) -> None:
    """Refuse a parameter that is varied twice, or both varied and set.

    Raises:
        ConfigError: there is one.
    """
    names = [axis.name for axis in axes]
    for k, name in enumerate(names):
        if name in names[:k] or name in fixed:
            other = "scenes.set" if name in fixed else "another --vary"
            raise ConfigError(
                f"'{name}' has values by --vary and by {other}",
                where=f"--vary {name}", remedy="give its values once",
            )  # fmt: skip


def grid(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Every combination of the axes' values, the last axis fastest.

    Raises:
        ConfigError: there are too many.
    """
    _check_count(math.prod(len(axis.values) for axis in axes), "--vary")
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.name: value for axis, value in zip(axes, values, strict=True)}


def samples(axes: Sequence[Axis], count: int, seed: int, name: str) -> list[dict[str, Any]]:
    """Latin hypercube samples: each axis is cut into `count` equal strata, each met once.

    (McKay, Beckman, Conover, "A comparison of three methods for selecting values of input
    variables", 1979.) Of an axis with values, each is met equally often, up to one.

    Args:
        seed: Root of the axes' own generators, which `name` and the axis' name address.

    Raises:
        ConfigError: `count` is too large.
    """
    _check_count(count, f"--sample {count}")
    columns = {}
    for axis in axes:
        draw = generator(seed, "vary", name, axis.name)
        strata = (draw.permutation(count) + draw.random(count)) / count
        if axis.values:
            picks = np.minimum((strata * len(axis.values)).astype(np.int64), len(axis.values) - 1)
            columns[axis.name] = [axis.values[k] for k in picks.tolist()]
        else:
            span = axis.low + strata * (axis.high - axis.low)
            columns[axis.name] = [_rounded(v) for v in span.tolist()]
    return [{name: column[k] for name, column in columns.items()} for k in range(count)]


def write_family(
    source: SceneSource, scene_ids: Sequence[str], file: EditFile,
    rows: Sequence[Mapping[str, Any]], out: Path, *, fixed: Mapping[str, Any] | None = None,
) -> Iterator[Variant]:  # fmt: skip
    """Write a native bundle for each scene and each row of values, then ``family.csv``.

    Args:
        fixed: Values of the other parameters; their defaults where there are none.

    A scene that cannot be loaded leaves the others alone: all of its variants are refused.

    Yields:
        Each variant, as soon as it is written or refused.

    Raises:
        SceneError: a bundle cannot be written, or the edit file is
            not right whatever the values.
    """
    file.resolve(fixed)
    _clear(out)
    made: list[Variant] = []
    digits = len(str(max(len(rows) - 1, 0)))
    try:
        for scene_id in scene_ids:
            try:
                scene: Scene | SceneError = source.load(scene_id)
            except SceneError as error:
                scene = error
            for k, row in enumerate(rows):
                name = safe_id(f"{scene_id}-{file.name}-{k:0{digits}d}", file.where)
                values = {**(fixed or {}), **row}
                if isinstance(scene, SceneError):
                    whole = _all_values(file, values)
                    variant = Variant(name, scene_id, whole, scene.what, scene)
                else:
                    variant = _variant(scene, name, file, values, out)
                made.append(variant)
                yield variant
    except BaseException:
        if made:  # interrupted: the next family must find what this one leaves behind
            _write_csv(made, file, out)
        raise
    _write_csv(made, file, out)


def _clear(out: Path) -> None:
    """Take the bundles of an earlier family out of a folder: those its table lists."""
    table = out / FAMILY_CSV
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                (out / f"{safe_id(row.get('id') or '', str(table))}.zip").unlink(missing_ok=True)
        table.unlink()


def _all_values(file: EditFile, values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: values.get(n, p.default) for n, p in file.parameters.items()}


def _variant(
    scene: Scene, name: str, file: EditFile, values: Mapping[str, Any], out: Path
) -> Variant:
    whole = _all_values(file, values)
    try:
        edited = apply_edits(scene, file.resolve(values), where=file.where)
    except (SceneError, ConfigError) as error:
        return Variant(name, scene.id, whole, error.what)
    write_bundle(replace(edited, id=name), out / f"{name}.zip")
    return Variant(name, scene.id, whole)


def _write_csv(variants: Sequence[Variant], file: EditFile, out: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "scene", "recipe", *file.parameters, "skipped"])
    for v in variants:
        values = ["" if x is None else x for x in v.values.values()]
        writer.writerow([v.id, v.scene, file.where, *values, v.skipped])
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / FAMILY_CSV).write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise SceneError(
            f"{FAMILY_CSV} cannot be written: {error}",
            where=str(out),
            remedy="choose another --out",
        ) from error

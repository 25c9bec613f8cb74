"""A grid of runs as it is asked for: which values each part takes, and the settings of every cell.

``policy=a,b renderer=x,y`` makes four cells. ``NAME=PLUGIN`` says what a value of a list stands
for, and ``NAME.KEY=VALUE`` gives a setting to that value alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omniloop.configs.compose import compose, default_choices
from omniloop.configs.schema import GROUP_NAMES
from omniloop.core.errors import ConfigError, nearest

AXES = ("policy", "renderer", "traffic", "controller")
"""Groups of settings that may take several values, in the order of a cell's name."""

_ALWAYS_NAMED = ("policy", "renderer")
_OWN = ("run.dir", "run.name", "run.resume")


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        label: How the user calls it.
        plugin: The plugin that it stands for; None where it was not typed and stays as it is.
        settings: ``(key, value)`` within the axis's group, of this value alone.
    """

    axis: str
    label: str
    plugin: str | None
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cell:
    """One combination of values: a run.

    Attributes:
        name: Of its folder: the labels with a hyphen between them.
        values: By axis.
    """

    name: str
    values: Mapping[str, Value]

    @property
    def policy(self) -> str:
        """The policy's label."""
        return self.values["policy"].label

    @property
    def renderer(self) -> str:
        """The renderer's label."""
        return self.values["renderer"].label

    @property
    def others(self) -> tuple[tuple[str, str], ...]:
        """``(axis, label)`` of all but the policy."""
        return tuple((axis, v.label) for axis, v in self.values.items() if axis != "policy")


@dataclass(frozen=True)
class Grid:
    """What was asked for.

    Attributes:
        axes: Axis to its values.
        common: ``(key, value)`` of the settings that all cells share.
        cells: Policies innermost.
    """

    axes: Mapping[str, tuple[Value, ...]]
    common: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """A folder's name from the values: the same grid has the same one."""
        named = [values for axis, values in self.axes.items() if _is_named(axis, values)]
        return "-".join("+".join(_folder(v.label) for v in values) for values in named)

    @property
    def varied(self) -> tuple[str, ...]:
        """Axes with several values."""
        return tuple(axis for axis, values in self.axes.items() if len(values) > 1)

    def given(self, key: str) -> str | None:
        """A common setting as it was typed, None if it was not."""
        return dict(self.common).get(key)

    def overrides(self, cell: Cell, more: Mapping[str, str] | None = None) -> list[str]:
        """All settings of a cell, as for `omniloop run`; `more` stands above what was typed."""
        found = dict(self.common)
        for axis, value in cell.values.items():
            if value.plugin is not None:
                found[axis] = value.plugin
            found.update({f"{axis}.{key}": text for key, text in value.settings})
        found.update(more or {})
        return [f"{key}={text}" for key, text in found.items()]


def read_grid(settings: Sequence[str]) -> Grid:
    """Read a grid as it is typed.

    Args:
        settings: ``KEY=VALUE`` as for `omniloop run`, where policy, renderer, traffic and
            controller may be lists with commas.

    Raises:
        ConfigError: a setting cannot be read, a value is given twice, a setting is of no value and
            no group, or there is nothing to compare.
    """
    pairs = [_split(setting) for setting in settings]
    lists = _lists(pairs)
    labels = {label: axis for axis, found in lists.items() for label in found}
    shared = {label for label in labels if sum(label in found for found in lists.values()) > 1}
    common: list[tuple[str, str]] = []
    plugins: dict[str, str] = {}
    own: dict[str, list[tuple[str, str]]] = {}
    for key, text in pairs:
        if key in AXES:
            continue
        label = _label_of(key, labels)
        if label is None:
            _check_common(key, text, labels)
            common.append((key, text))
        elif label in shared:
            on = " and ".join(axis for axis, found in lists.items() if label in found)
            raise ConfigError(
                f"'{label}' is a value of {on}", where=f"{key}={text}",
                remedy="call one of them otherwise: mine in its list, and mine=PLUGIN",
            )  # fmt: skip
        elif key == label:
            plugins[label] = text
        else:
            own.setdefault(label, []).append((key[len(label) + 1 :], text))
    axes: dict[str, tuple[Value, ...]] = {}
    for axis in AXES:
        if axis in lists:
            axes[axis] = tuple(
                Value(axis, label, plugins.get(label, label), tuple(own.get(label, ())))
                for label in lists[axis]
            )
        elif axis in _ALWAYS_NAMED:
            axes[axis] = (Value(axis, _default(axis, common), None),)
    if all(len(values) == 1 for values in axes.values()):
        raise ConfigError(
            "a grid of one cell has nothing to compare", where=" ".join(settings) or "--grid",
            remedy="give several values: policy=a,b renderer=x,y",
        )  # fmt: skip
    return Grid(axes, tuple(common), _cells(axes))


def _split(setting: str) -> tuple[str, str]:
    key, separator, text = setting.partition("=")
    key = key.lstrip("+").strip()
    if not separator or not key:
        raise ConfigError(
            f"'{setting}' is not a setting", where="command line",
            remedy="write policy=a,b renderer=x,y, and other settings as KEY=VALUE",
        )  # fmt: skip
    return key, text


def _lists(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Axis to its labels, in the order of `AXES`."""
    found: dict[str, list[str]] = {}
    for key, text in pairs:
        if key not in AXES:
            continue
        labels = [part.strip() for part in text.split(",")]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if key in found or twice or not all(labels):
            what = f"'{twice[0]}' is given twice" if twice else f"'{text}' is no list of values"
            raise ConfigError(
                f"{key} is given twice" if key in found else what, where=f"{key}={text}",
                remedy=f"give each value once: {key}=a,b",
            )  # fmt: skip
        for label in labels:
            if label in (*GROUP_NAMES, "suite") or label in (".", "..") or "/" in label:
                raise ConfigError(
                    f"'{label}' cannot be the name of a value", where=f"{key}={text}",
                    remedy="call it otherwise: mine in the list, and mine=PLUGIN",
                )  # fmt: skip
        found[key] = labels
    return {axis: found[axis] for axis in AXES if axis in found}


def _default(axis: str, common: Sequence[tuple[str, str]]) -> str:
    """The plugin of an axis that was not typed."""
    suite = dict(common).get("suite")
    if suite is None:
        return default_choices()[axis]
    name: str = getattr(compose([f"suite={suite}"]), axis).name
    return name


def _label_of(key: str, labels: Mapping[str, str]) -> str | None:
    """The value that a key is of; of ``a.b:C.d`` the longest that fits."""
    fits = [label for label in labels if key == label or key.startswith(f"{label}.")]
    return max(fits, key=len, default=None)


def _check_common(key: str, text: str, labels: Mapping[str, str]) -> None:
    if key in _OWN:
        raise ConfigError(
            f"'{key}' is the grid's own", where=f"{key}={text}",
            remedy="give the grid's folder with --out; each cell has a folder in it, and goes on"
            " where it was left",
        )  # fmt: skip
    group = key.partition(".")[0]
    if group in (*GROUP_NAMES, "suite"):
        return
    known = (*labels, *GROUP_NAMES, "suite")
    raise ConfigError(
        f"'{group}' is no value of a list and no group of settings.{nearest(group, known)}",
        where=f"{key}={text}",
        remedy=f"values: {', '.join(labels) or 'none'}; groups: {', '.join(GROUP_NAMES)}; or suite=NAME",
    )  # fmt: skip


def _cells(axes: Mapping[str, tuple[Value, ...]]) -> tuple[Cell, ...]:
    order = [axis for axis in AXES if axis in axes and axis != "policy"]
    cells: dict[str, Cell] = {}
    for chosen in itertools.product(*(axes[axis] for axis in order), axes["policy"]):
        values = {value.axis: value for value in (chosen[-1], *chosen[:-1])}
        name = "-".join(
            _folder(v.label) for v in values.values() if _is_named(v.axis, axes[v.axis])
        )
        if name in cells:
            raise ConfigError(
                f"two cells would be called '{name}'", where="--grid",
                remedy="call a value otherwise: mine in its list, and mine=PLUGIN",
            )  # fmt: skip
        cells[name] = Cell(name, values)
    return tuple(cells.values())


def _is_named(axis: str, values: Sequence[Value]) -> bool:
    return axis in _ALWAYS_NAMED or len(values) > 1


def _folder(label: str) -> str:
    """A label as a folder's name: a class's path keeps its letters, dots instead of colons."""
    return label.replace(":", ".")

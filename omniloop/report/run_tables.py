"""All tables that a run's folder holds besides those of rollouts."""

from __future__ import annotations

from pathlib import Path

from omniloop.core.errors import ConfigError, nearest
from omniloop.report.alpasim_tables import alpasim_tables, write_alpasim_tables
from omniloop.report.runs import Run
from omniloop.report.score_tables import all_scores, chosen_scores, tables_of, write_score_tables
from omniloop.report.tabular import Table

ALPASIM = "alpasim"
"""A family with a way of its own to sum a run up."""


def write_tables(run: Run) -> list[Path]:
    """Write the scores of a run and, if it has such, AlpaSim's tables.

    Raises:
        RunFolderError: they cannot be written.
    """
    return [*write_score_tables(run), *write_alpasim_tables(run)]


def family_tables(
    run: Run, family: str, by: str, wanted: list[str] | None = None
) -> tuple[Table, Table]:
    """The scores of one family: in full, and for people; AlpaSim's as AlpaSim sums them up.

    Args:
        by: See `omniloop.report.score_tables.tables_of`.
        wanted: Patterns of scores of the family; all if None.

    Raises:
        ConfigError: the run has no such scores, or AlpaSim's are to be grouped.
    """
    if family == ALPASIM:
        if by != "run":
            raise ConfigError(
                "AlpaSim's table is of a whole run", where=f"--by {by}",
                remedy="leave --by out, or choose scores with --metric 'alpasim_*' and no --family",
            )  # fmt: skip
        return alpasim_tables(run, wanted)
    families = {name: d.family for name, d in run.definitions.items()}
    names = [name for name in all_scores(run.results) if families.get(name) == family]
    if not names:
        known = sorted({families[name] for name in all_scores(run.results) if name in families})
        raise ConfigError(
            f"the run has no scores of the family '{family}'.{nearest(family, known)}",
            where="--family", remedy=f"its families: {', '.join(known)}",
        )  # fmt: skip
    return tables_of(run, by, chosen_scores(names, wanted))

"""A grid as it is typed, the times that its cells share, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniloop.cli.grid import compare_grid
from omniloop.core.errors import ConfigError, InputError, PluginError, RunFolderError, SceneError
from omniloop.report.runs import read_run
from omniloop.runner.grids.cells import choose_frozen
from omniloop.runner.grids.clock import common_clock, plan_grid
from omniloop.runner.grids.grid import read_grid

PLUGINS = "tests.runner.grids.grid_plugins"
TWO = ("policy=constant_velocity,log_replay", "renderer=none")
QUICK = ("scenes.ids=curve", "sync.duration_s=1")
SMALL = ("renderer.width=64", "renderer.height=48")


def test_cells_are_named_after_their_values_policies_innermost():
    grid = read_grid(
        ["policy=a,b", "renderer=x,y", "traffic=t,u", "controller=perfect", "run.seeds=2"]
    )
    assert [cell.name for cell in grid.cells] == [
        "a-x-t", "b-x-t", "a-x-u", "b-x-u", "a-y-t", "b-y-t", "a-y-u", "b-y-u",
    ]  # fmt: skip
    assert grid.name == "a+b-x+y-t+u"
    assert grid.varied == ("policy", "renderer", "traffic")
    assert "controller=perfect" in grid.overrides(grid.cells[0])
    assert "run.seeds=2" in grid.overrides(grid.cells[0])


def test_axes_that_are_not_given_have_their_default():
    grid = read_grid(["policy=a,b"])
    assert [cell.name for cell in grid.cells] == ["a-rasterizer", "b-rasterizer"]
    assert [c.name for c in read_grid(["renderer=x,y"]).cells] == [
        "route_follower-x", "route_follower-y",
    ]  # fmt: skip


def test_a_name_stands_for_a_plugin_with_settings_of_its_own():
    grid = read_grid(
        ["renderer=x,mild", "mild=degraded", "mild.blur_px_per_m=0.1", "renderer.fps=10", "mild.fps=30"]
    )  # fmt: skip
    plain, mild = (grid.overrides(cell) for cell in grid.cells)
    assert set(plain) == {"renderer=x", "renderer.fps=10"}
    assert set(mild) == {
        "renderer=degraded", "renderer.fps=30", "renderer.blur_px_per_m=0.1",
    }  # fmt: skip


def test_a_class_is_a_value_and_takes_settings():
    grid = read_grid(["policy=a.b:C,d", "a.b:C.speed_mps=3"])
    assert [cell.name for cell in grid.cells] == ["a.b.C-rasterizer", "d-rasterizer"]
    assert "policy.speed_mps=3" in grid.overrides(grid.cells[0])
    assert "policy.speed_mps=3" not in grid.overrides(grid.cells[1])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ([], "a grid of one cell"),
        (["policy=a", "renderer=x"], "a grid of one cell"),
        (["policy=a,a"], "'a' is given twice"),
        (["policy=a,b", "policy=c"], "policy is given twice"),
        (["policy=a,,b"], "'a,,b' is no list of values"),
        (["policy=a,run"], "'run' cannot be the name of a value"),
        (["policy=a,../b"], "cannot be the name of a value"),
        (["policy=a,b", "nonsense"], "'nonsense' is not a setting"),
        (["policy=a,b", "run.name=x"], "'run.name' is the grid's own"),
        (["policy=a,b", "run.resume=true"], "'run.resume' is the grid's own"),
        (["renderer=x,mild", "mildd.fps=3"], "Did you mean 'mild'?"),
        (["policy=same,b", "traffic=same,idm", "same.k=1"], "'same' is a value of policy and traffic"),
        (["policy=a:B,a.B"], "two cells would be called"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        read_grid(settings)


def test_the_slowest_chunk_sets_the_times_and_rasterisers_follow():
    clock = common_clock(
        read_grid([f"renderer=rasterizer,slow,degraded,{PLUGINS}:OneByOne", "slow=rasterizer",
                   "slow.chunk=16", "sync.duration_s=5"])
    )  # fmt: skip
    assert clock.set_by == "slow"
    assert clock.sync == {
        "sync.decision_period_us": "533328", "sync.first_decision_us": str(13 * 33_333),
    }  # fmt: skip
    assert set(clock.renderers) == {"rasterizer", "degraded"}
    assert clock.drawn[f"{PLUGINS}:OneByOne"] is None
    assert clock.notes == tuple(
        f"{name} takes slow's chunks of 16 frames at 30 Hz instead of 8 at 30 Hz"
        for name in ("rasterizer", "degraded")
    )


def test_a_chunk_that_cannot_change_goes_before_one_that_can():
    clock = common_clock(
        read_grid([f"renderer=rasterizer,{PLUGINS}:Fixed", "rasterizer.chunk=16"])
    )  # fmt: skip
    assert clock.set_by == f"{PLUGINS}:Fixed"
    assert clock.renderers["rasterizer"]["renderer.chunk"] == "8"


def test_several_decisions_on_a_chunk_are_shared_too():
    clock = common_clock(
        read_grid([f"renderer=rasterizer,{PLUGINS}:OneByOne", "sync=postfetch", "sync.decisions_per_chunk=2"])
    )  # fmt: skip
    assert clock.sync["sync.decision_period_us"] == str(4 * 33_333)


def test_frame_by_frame_renderers_keep_the_period_that_is_given():
    clock = common_clock(read_grid([TWO[0], "renderer=rasterizer", "renderer.chunk=0"]))
    assert (clock.chunk, clock.sync) == (None, {})


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        (["renderer=one,two", f"one={PLUGINS}:Fixed", f"two={PLUGINS}:Fixed", "two.chunk=16"],
         ConfigError, r"two and one cannot decide at the same times: .*every 533.328 ms.*every 266.664"),
        (["renderer=rasterizer,degraded", "sync.decision_period_us=100000"],
         ConfigError, "sync.decision_period_us is 100000, but rasterizer makes chunks of 8"),
        (["policy=constant_velocity,log_reply", "renderer=none"], PluginError, "Did you mean 'log_replay'"),
        (["renderer=rasterizer,rasterzer"], PluginError, "unknown renderer plugin 'rasterzer'"),
        (["policy=log_replay,constant_velocity", "renderer=none", "log_replay.speed=1"],
         PluginError, "cell log_replay-none: policy 'log_replay' has no setting 'speed'"),
        ([*TWO, "scenes.ids=nowhere"], SceneError, "nowhere"),
        (["policy=constant_velocity,log_replay", "renderer.chunk=16", "renderer.fps=1"],
         InputError, "cell constant_velocity-rasterizer: "),
        ([*TWO, "sync.warmup_s=100"], SceneError, "every scene is excluded"),
        ([f"policy=log_replay,{PLUGINS}:Beside", f"{PLUGINS}:Beside.history_s=30", "renderer=none"],
         SceneError, "excluded"),
        (["renderer=rasterizer,late", "late=rasterizer", "late.shutter_us=20000"],
         ConfigError, "would not run alike: the first decision is 166665 us and 186665 us"),
    ],
)  # fmt: skip
def test_what_cannot_run_alike_is_refused_before_anything_is_written(
    settings, error, says, tmp_path
):
    out = tmp_path / "grid"
    with pytest.raises(error, match=says):
        compare_grid(settings, out=out)
    assert not out.exists()


def test_a_chunked_and_a_frame_by_frame_renderer_share_all_times_and_what_is_missing_is_run(
    tmp_path, capsys
):
    settings = [
        "policy=constant_velocity,look", f"look={PLUGINS}:Looker", f"renderer={PLUGINS}:OneByOne,rasterizer",
        "rasterizer.width=64", "rasterizer.height=48", "rasterizer.chunk=8", "scenes.ids=curve,junction",
        "sync.duration_s=2",
    ]  # fmt: skip
    grid = tmp_path / "g"
    assert compare_grid(settings, out=grid) == 0
    found = {
        path.name: [
            (r.handover_us, r.decision_period_us, r.decisions, r.end_us, r.warmup_s)
            for r in read_run(path).results
        ]
        for path in grid.iterdir()
        if path.is_dir() and path.name != "frozen"
    }
    assert len(found) == 4
    assert len(set(map(tuple, found.values()))) == 1
    assert {facts[1] for facts in next(iter(found.values()))} == {266_664}
    assert "one decision grid: 4 cell(s) agree" in (grid / "grid.md").read_text()
    texts = {p.name: p.read_bytes() for p in grid.iterdir() if p.is_file()}
    assert "backends.svg" in texts
    (grid / "look-rasterizer" / "rollouts" / "curve" / "0" / "result.json").unlink()
    other = grid / "constant_velocity-rasterizer" / "rollouts" / "curve" / "0" / "result.json"
    before = other.stat().st_mtime_ns
    capsys.readouterr()
    assert compare_grid(settings, out=grid) == 0
    told = capsys.readouterr().err
    assert "look-rasterizer: 1 rollout(s), 1 already there" in told
    assert told.count("0 rollout(s), 2 already there") == 3
    assert other.stat().st_mtime_ns == before
    assert {p.name: p.read_bytes() for p in grid.iterdir() if p.is_file()} == texts


def test_the_longest_history_sets_everybodys_warm_up(tmp_path):
    grid = read_grid(
        ["policy=log_replay,long", f"long={PLUGINS}:Beside", "long.history_s=1.05", "renderer=none",
         *QUICK, "sync.duration_s=3"]
    )  # fmt: skip
    plan = plan_grid(grid, tmp_path / "g")
    assert plan.warmup_s == pytest.approx(1.1)
    assert {config.sync.warmup_s for config in plan.configs.values()} == {plan.warmup_s}
    assert "every cell has the warm-up that long needs: 1.1 s" in plan.notes
    given = plan_grid(
        read_grid([f"{k}={v}" for k, v in grid.common] + [*TWO, "sync.warmup_s=0.5"]), tmp_path
    )
    assert given.warmup_s == 0.5


def test_the_frozen_cell_is_one_that_all_can_draw():
    grid = read_grid(
        ["policy=a,b", f"renderer=one,{PLUGINS}:Fixed,none", f"one={PLUGINS}:OneByOne"]
    )
    clock = common_clock(
        read_grid(["policy=log_replay,constant_velocity", f"renderer=one,{PLUGINS}:Fixed,none", f"one={PLUGINS}:OneByOne"])
    )  # fmt: skip
    chosen = choose_frozen(grid, clock, None)
    assert chosen is not None
    assert chosen.cell.name == f"a-{PLUGINS}.Fixed"
    assert chosen.settings == {"one": (f"renderer={PLUGINS}:OneByOne",)}
    with pytest.raises(
        ConfigError, match="draws chunks only, and one was asked for its frames one by one"
    ):
        choose_frozen(grid, clock, "b-one")
    with pytest.raises(ConfigError, match="the grid has no cell 'nobody'"):
        choose_frozen(grid, clock, "nobody")
    with pytest.raises(ConfigError, match="no frames to draw again"):
        choose_frozen(grid, clock, "a-none")


def test_a_folder_of_something_else_is_refused(tmp_path):
    out = tmp_path / "g"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="holds something that is no grid"):
        compare_grid([*TWO, *QUICK], out=out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]


def test_a_policy_that_fails_is_counted_and_a_broken_renderer_takes_no_cell_down(tmp_path, capsys):
    settings = [
        "policy=log_replay,bad", "bad=tests.plugins:NoPlan",
        f"renderer={PLUGINS}:Breaks,rasterizer", "rasterizer.width=64", "rasterizer.height=48",
        "scenes.ids=curve,junction", "sync.duration_s=1",
    ]  # fmt: skip
    assert compare_grid(settings, out=tmp_path / "g", kind="md") == 1
    told = capsys.readouterr()
    assert "failed: cell log_replay-tests.runner.grids.grid_plugins.Breaks: curve/0: " in told.err
    assert "the renderer went away" in told.err
    assert "failed: cell bad-rasterizer" not in told.err
    assert (
        "bad-rasterizer: 2 rollout(s) failed: curve/0 policy failed, junction/0 policy failed"
        in (told.out.replace("\\_", "_").replace("\\", ""))
    )
    assert "ended early" in (tmp_path / "g" / "grid.md").read_text()
    outcomes = {r.outcome for r in read_run(tmp_path / "g" / "log_replay-rasterizer").results}
    assert outcomes == {"completed"}


def test_what_is_interrupted_goes_on_and_grows_but_only_with_its_settings(
    tmp_path, monkeypatch, capsys
):
    from omniloop.runner.grids import cells as grid_run

    real, calls = grid_run.execute, []

    def stopped(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(grid_run, "execute", stopped)
    out: Path = tmp_path / "g"
    assert compare_grid([*TWO, *QUICK], out=out) == 1
    told = capsys.readouterr().err
    assert "interrupted: cell 1 of 2, constant_velocity-none" in told
    assert "go on with the same command" in told
    more = ["policy=constant_velocity,log_replay,route_follower", "renderer=none", *QUICK]
    assert compare_grid(more, out=out) == 0
    assert "constant_velocity-none: 0 rollout(s), 1 already there" in capsys.readouterr().err
    assert (out / "log_replay-none").is_dir()
    assert (out / "route_follower-none").is_dir()
    with pytest.raises(
        RunFolderError, match=r"begun with other settings: .*duration_s: 1.0 -> 2.0"
    ):
        compare_grid([*TWO, QUICK[0], "sync.duration_s=2"], out=out)

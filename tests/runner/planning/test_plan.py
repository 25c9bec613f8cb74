from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.runlog.results import RolloutResult, read_results, write_result
from omniloop.runlog.run_yaml import to_yaml
from omniloop.runner.planning.plan import Service, Workload, bound, forecast, plan
from omniloop.runner.planning.simulation import simulate
from omniloop.runner.planning.words import batch_from_words, read_measured, seconds_of
from omniloop.runner.run import execute


def batch(*words):
    return batch_from_words(words)


def terms(of):
    return {term.name: term.seconds for term in bound(of)}


# ------------------------------------------------------------------ cases by hand


def test_one_session_simulates_one_rollout_after_the_other():
    one = batch("renderer=100ms,sessions=1", "steps=5", "rollouts=10")
    found = forecast(one)
    assert found.wall_s == pytest.approx(10 * (1 + 5) * 0.1)
    assert found.efficiency == pytest.approx(1.0)
    assert found.busy["renderer"] == pytest.approx(1.0)
    assert found.gpu_hours == pytest.approx(6.0 / 3600)


def test_two_services_in_turn_leave_each_other_idle_with_one_session_each():
    one = batch("renderer=118ms,addresses=2,sessions=1", "policy=80ms", "steps=10", "rollouts=4")
    path_s = 0.118 + 10 * (0.118 + 0.080)
    assert terms(one)["rollouts of one session"] == pytest.approx(2 * path_s)
    found = forecast(one)
    assert found.bottleneck == "renderer.sessions"
    assert path_s * 2 <= found.wall_s < path_s * 2 + 0.2  # the policy is asked by two at first


def test_more_sessions_an_address_keep_the_renderers_busy():
    one = batch("renderer=118ms,addresses=2,sessions=4", "policy=80ms,batch=4", "steps=75",
                "rollouts=64")  # fmt: skip
    found = forecast(one)
    assert found.bottleneck == "renderer"
    assert found.busy["renderer"] > 0.99
    assert terms(one)["renderer busy"] == pytest.approx(64 * 76 * 0.118 / 2)
    assert terms(one)["policy busy"] == pytest.approx(64 * 75 * 0.080 / 4)
    assert found.efficiency > 0.99


def test_a_batch_answers_several_in_one_go_and_places_each_for_its_time():
    words = ("steps=20", "rollouts=4", "concurrency=4")
    alone = forecast(batch("policy=80ms", *words)).wall_s
    together = forecast(batch("policy=80ms,batch=4", *words)).wall_s
    beside = forecast(batch("policy=80ms,at_once=4", *words)).wall_s
    assert alone == pytest.approx(4 * 20 * 0.08)
    assert beside == pytest.approx(20 * 0.08)
    assert together == pytest.approx(20 * 0.08)
    spread = forecast(batch("policy=80ms,batch=4", "loop=1ms", *words)).wall_s
    assert spread == pytest.approx(2 * 20 * 0.08, rel=0.05)  # one, the three that waited, one, ...


def test_workers_do_one_thing_at_a_time_and_share_cores():
    words = ("loop=10ms", "scoring=50ms", "steps=10", "rollouts=16", "concurrency=8")
    one = forecast(batch(*words)).wall_s
    assert one == pytest.approx(16 * 0.15)
    assert forecast(batch(*words, "workers=2")).wall_s == pytest.approx(one / 2)
    both = forecast(batch(*words, "workers=2", "cores=1"))
    assert both.wall_s == pytest.approx(one)
    assert both.bottleneck == "workers"


def test_scoring_holds_no_session():
    one = batch("renderer=1s,sessions=1", "steps=1", "rollouts=3", "scoring=1500ms")
    assert forecast(one).wall_s == pytest.approx(3 * 2.0 + 1.5)


def test_opening_sessions_takes_time_and_nobody_elses():
    one = batch("renderer=1s,sessions=4", "steps=1", "rollouts=4", "start=10s")
    assert forecast(one).wall_s == pytest.approx(10 + 4 * 2)


# ----------------------------------------------------------------- for any batch

services = st.builds(
    Service,
    st.sampled_from(["renderer", "policy"]),
    st.sampled_from([0.0, 0.01, 0.05, 0.118]),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2, 5]),
    st.integers(1, 3),
    st.integers(1, 4),
)
batches = st.builds(
    Workload,
    rollouts=st.integers(1, 30),
    steps=st.integers(1, 6),
    services=st.lists(services, max_size=2, unique_by=lambda s: s.name).map(tuple),
    loop_s=st.sampled_from([0.001, 0.02]),
    scoring_s=st.sampled_from([0.0, 0.1]),
    start_s=st.sampled_from([0.0, 0.3]),
    workers=st.integers(1, 3),
    cores=st.sampled_from([None, 1, 2]),
    concurrency=st.sampled_from([None, 1, 7]),
)


@given(batches)
def test_no_simulation_beats_the_bound(of):
    ran = simulate(of, None)
    for name, seconds in terms(of).items():
        assert ran.wall_s >= seconds - 1e-9, name
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in ran.busy.values())


@given(batches)
def test_the_same_batch_has_the_same_answer(of):
    assert simulate(of, None) == simulate(of, None)


@pytest.mark.parametrize(
    ("words", "within"),
    [
        ("renderer=118ms,addresses=2,sessions=1 policy=80ms,batch=4", 0.001),
        ("renderer=118ms,addresses=2,sessions=4 policy=80ms,batch=4 loop=1ms", 0.001),
        ("renderer=20ms,addresses=3,at_once=2 policy=30ms,at_once=4 loop=4ms workers=2", 0.001),
        ("policy=5ms loop=8ms scoring=300ms workers=2", 0.001),
        # rollouts leave each other's way only slowly here, and the drift says that they still do
        ("renderer=118ms,addresses=8,sessions=2 policy=80ms,batch=4 start=2s loop=1ms", 0.03),
    ],
)
@pytest.mark.parametrize("rollouts", [1000, 1011])
def test_the_pace_of_a_part_stands_for_the_whole(words, within, rollouts):
    of = batch(*words.split(), "steps=10", f"rollouts={rollouts}")
    part, whole = simulate(of, 12_000), simulate(of, None)
    assert part.rollouts < whole.rollouts == rollouts
    assert part.wall_s == pytest.approx(whole.wall_s, rel=within)
    assert (part.drift > 0.001) == (within > 0.001)
    assert whole.drift == 0.0


def test_a_hundred_thousand_rollouts_are_simulated_in_part():
    of = batch("renderer=118ms,addresses=4,sessions=2", "policy=80ms,batch=4", "steps=75",
               "rollouts=100000")  # fmt: skip
    found = forecast(of)
    assert not found.is_exact
    assert 8 * 4 <= found.simulated < 5000
    assert found.efficiency <= 1.001
    assert found.document()["exact"] is False


# ---------------------------------------------------------------------- how many


def test_the_plan_tells_how_many_renderers_a_policy_needs():
    found = plan(batch("renderer=118ms,sessions=4", "policy=80ms,batch=4", "steps=20",
                       "rollouts=128"))  # fmt: skip
    assert found.varied == "renderer"
    assert list(found.others) == [1, 2, 4, 8]
    assert [o.bottleneck for o in found.others.values()] == ["renderer"] * 3 + ["policy"]
    assert found.enough == 8
    walls = [o.wall_s for o in found.others.values()]
    assert walls == sorted(walls, reverse=True)
    assert found.others[1].wall_s == found.forecast.wall_s
    assert found.document()["with"]["8"]["bottleneck"] == "policy"


def test_a_number_that_is_no_power_of_two_is_in_the_table():
    words = ("renderer=118ms,addresses=3,sessions=4", "steps=5", "rollouts=16")
    assert 3 in plan(batch(*words)).others
    assert list(plan(batch(*words, "loop=1ms"), "workers").others) == [1, 2, 4, 8]


def test_what_is_not_elsewhere_cannot_be_varied():
    with pytest.raises(ConfigError, match="no 'policy' elsewhere"):
        plan(batch("renderer=118ms", "steps=5", "rollouts=4"), "policy")


# ------------------------------------------------------------------------- words


def test_the_short_form_of_a_service_is_its_keys():
    short = batch("renderer=118ms,addresses=2,sessions=4,at_once=3", "steps=1", "rollouts=1")
    long = batch("renderer.time=0.118s", "renderer.addresses=2", "renderer.sessions=4",
                 "renderer.at_once=3", "steps=1", "rollouts=1")  # fmt: skip
    assert short == long
    assert short.services == (Service("renderer", 0.118, 1, 2, 4, 3, 1, 1.0),)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("118ms", 0.118), ("2 s", 2.0), ("3us", 3e-6), ("1.5min", 90), ("1h", 3600)],
)
def test_times_have_units(text, seconds):
    assert seconds_of(text, "time") == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("renderer=118 steps=1 rollouts=1", "which is no time"),
        ("renderer=-118ms steps=1 rollouts=1", "which is no time"),
        ("renderer=1.2.3ms steps=1 rollouts=1", "which is no time"),
        ("renderer=118ms,adresses=2 steps=1 rollouts=1", r"Did you mean 'renderer\.addresses'"),
        ("rendrer=118ms steps=1 rollouts=1", "Did you mean 'renderer'"),
        ("rollout=3", "Did you mean 'rollouts'"),
        ("renderer=118ms,2 steps=1 rollouts=1", "'2' is no KEY=VALUE"),
        ("renderer=118ms,addresses=0 steps=1 rollouts=1", r"renderer\.addresses is '0'"),
        ("renderer=118ms,gpus=-1 steps=1 rollouts=1", r"renderer\.gpus is '-1'"),
        ("renderer.addresses=2 steps=1 rollouts=1", "how long a call of renderer takes"),
        ("renderer=118ms steps=1", "rollouts is not given"),
        ("renderer=118ms rollouts=1", "steps is not given"),
        ("renderer=118ms steps=1 rollouts=-5", "rollouts is '-5'"),
        ("renderer=118ms steps=1.5 rollouts=5", r"steps is '1\.5'"),
        ("renderer=118ms steps=1 steps=2 rollouts=5", "steps comes twice"),
        ("steps=1 rollouts=5", "nothing takes any time"),
    ],
)
def test_wrong_words_say_what_is_wrong(words, says):
    with pytest.raises(ConfigError, match=says):
        batch(*words.split())


@pytest.mark.parametrize("wrong", [{"call_s": -1.0}, {"call_s": math.nan}, {"at_once": 0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ConfigError):
        Service(**{"name": "policy", "call_s": 1.0, **wrong})
    with pytest.raises(ConfigError):
        Workload(rollouts=1, steps=1, loop_s=-1.0)


# -------------------------------------------------------------------------- runs


def times(calls, total_s):
    return {"calls": calls, "total_s": total_s, "longest_s": total_s / calls}


def remote_run(folder, renderer_s=(0.020, 0.030), concurrency=1, outcome="completed"):
    """Two rollouts of 40 steps as results tell them: renderer and policy elsewhere."""
    config = {
        "renderer": {"name": "nurec", "address": "a:1,b:1", "sessions": 2},
        "policy": {"name": "remote", "address": "c:1", "sessions": None},
        "traffic": {"name": "log_replay"},
        "run": {"concurrency": concurrency, "workers": "auto"},
    }
    folder.mkdir()
    (folder / "run.yaml").write_text(to_yaml({"config": config}))
    for seed, each_s in enumerate(renderer_s):
        waited_s = 41 * each_s + 40 * 0.05 + 3.0
        result = RolloutResult(
            "curve", seed, f"curve/{seed}", outcome, decisions=40,
            timings={
                "services": {
                    "renderer.open": times(1, 2.5),
                    "renderer.render": times(41, 41 * each_s),
                    "renderer.render_rgb": times(41, 40 * each_s),
                    "policy.open": times(1, 0.5),
                    "policy.plan": times(40, 40 * 0.05),
                    "policy.drive": times(40, 40 * 0.04),
                    "traffic.step": times(40, 0.04),
                },
                "rollout_s": waited_s + 0.4, "scoring_s": 0.1, "wall_s": waited_s + 0.6,
            },
        )  # fmt: skip
        path = folder / "rollouts" / "curve" / str(seed) / "result.json"
        path.parent.mkdir(parents=True)
        write_result(path, result)
    return folder


def test_a_run_tells_its_services_and_the_workers_own_time(tmp_path):
    measured = read_measured(remote_run(tmp_path / "run"))
    of = measured.batch
    renderer, policy = of.services
    assert (renderer.name, renderer.addresses, renderer.sessions, renderer.calls) == (
        "renderer", 2, 2, 1,
    )  # fmt: skip
    assert renderer.call_s == pytest.approx(0.020)  # the least, not the mean
    assert (policy.addresses, policy.sessions, policy.gpus) == (1, None, 1.0)
    assert policy.call_s == pytest.approx(0.05)
    assert (of.rollouts, of.steps, of.workers, of.concurrency) == (2, 40, 1, None)
    assert of.loop_s == pytest.approx(0.4 / 40)
    assert of.start_s == pytest.approx(3.0)
    assert of.scoring_s == pytest.approx(0.2)
    assert measured.own_s == {"traffic": pytest.approx(0.001)}


def test_words_go_before_what_a_run_measured(tmp_path):
    measured = read_measured(remote_run(tmp_path / "run"))
    of = batch_from_words(
        ["rollouts=500", "renderer.addresses=8", "policy=80ms,batch=4", "traffic=3ms"], measured
    )
    renderer, policy, traffic = of.services
    assert (renderer.addresses, renderer.sessions) == (8, 2)
    assert renderer.call_s == pytest.approx(0.020)
    assert (policy.call_s, policy.batch) == (pytest.approx(0.08), 4)
    assert (traffic.call_s, traffic.gpus) == (pytest.approx(0.003), 0.0)
    assert of.loop_s == pytest.approx(
        0.4 / 40 - 0.001
    )  # the traffic of the worker's process is gone
    assert (of.rollouts, of.steps) == (500, 40)


def test_times_under_load_are_said_to_be(tmp_path):
    alone = read_measured(remote_run(tmp_path / "alone")).batch.notes
    loaded = read_measured(remote_run(tmp_path / "loaded", concurrency=8)).batch.notes
    assert not any("several rollouts at once" in note for note in alone)
    assert any("several rollouts at once" in note for note in loaded)


def test_a_real_run_is_foretold_as_long_as_its_rollouts_together(tmp_path):
    execute(
        compose(
            [
                "scenes.ids=[straight_road]", "policy=constant_velocity", "renderer=none",
                "run.seeds=2", "run.workers=1", f"run.dir={tmp_path}", "run.name=run",
            ]
        )
    )  # fmt: skip
    of = read_measured(tmp_path / "run").batch
    took_s = sum(r.timings["wall_s"] for r in read_results(tmp_path / "run"))
    assert of.services == ()
    assert forecast(
        batch_from_words(["concurrency=1"], read_measured(tmp_path / "run"))
    ).wall_s == (pytest.approx(took_s, rel=1e-6))
    assert plan(of).varied == "workers"


def test_a_folder_without_a_completed_rollout_tells_nothing(tmp_path):
    with pytest.raises(RunFolderError, match="does not exist"):
        read_measured(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="holds no run"):
        read_measured(tmp_path / "empty")
    failed = remote_run(tmp_path / "failed", outcome="infrastructure_failed")
    with pytest.raises(ConfigError, match="no rollout of the run completed"):
        read_measured(failed)

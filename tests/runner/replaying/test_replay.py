"""Rollouts again from their logs: nothing differs, and what was changed is found first."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniloop.configs.compose import compose
from omniloop.core.errors import ConfigError, InputError, RunFolderError
from omniloop.runlog import messages as topics
from omniloop.runlog.declared import DECLARED
from omniloop.runlog.difference import first_difference
from omniloop.runlog.digest import digest_run
from omniloop.runlog.proto import log_pb2 as pb
from omniloop.runlog.reader import LogReader
from omniloop.runlog.results import read_results
from omniloop.runner.replaying.recording import Recording
from omniloop.runner.replaying.replay import Replayed, replay
from omniloop.runner.replaying.setup import KINDS
from omniloop.runner.run import execute
from tests.runner.replaying.altering import altered, rewritten

SMALL = ("renderer.width=64", "renderer.height=48")
BY_FRAME = ("renderer.chunk=0", "renderer.fps=10")


def drive(folder: Path, *words: str, name: str = "run") -> Path:
    execute(compose([f"run.dir={folder}", f"run.name={name}", *words]))
    return folder / name


def log_of(run_dir: Path, scene: str = "curve", seed: int = 0) -> Path:
    return run_dir / "rollouts" / scene / str(seed) / "log.mcap"


def differences(found: list[Replayed]) -> list[str]:
    return [str(r.difference) for r in found if r.difference is not None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a scene in which every service says something of its own."""
    return drive(
        tmp_path_factory.mktemp("driven"), *SMALL, *BY_FRAME, "scenes.ids=curve", "sync.duration_s=1",
        "run.seeds=2", "ground=flat", "traffic=idm",
    )  # fmt: skip


# --------------------------------------------------------------------- nothing differs


@pytest.mark.parametrize(
    "words",
    [
        (*SMALL, "sync.duration_s=0.9"),
        (*SMALL, *BY_FRAME, "ground=flat", "traffic=idm", "sync.duration_s=0.4"),
        (*SMALL, "sync=postfetch", "sync.decisions_per_chunk=2", "controller=mpc",
         "sync.decision_latency_us=200000", "sync.duration_s=1.2"),
        (*SMALL, "imperfection=all", "sync.duration_s=1.2"),
        ("renderer=none", "policy=constant_velocity", "run.stop_on=[collision,offroad]",
         "sync.skip_services_in_warmup=true", "sync.warmup_s=0.5", "sync.duration_s=1.5"),
    ],
    ids=["chunked", "per_frame", "postfetch", "imperfect", "skipped_warmup"],
)  # fmt: skip
def test_every_embedded_scene_replays_without_a_difference(tmp_path, words):
    driven = drive(tmp_path, *words)
    recorded = replay(driven)
    assert [r.session_id for r in recorded] == [name for _, name in digest_run(driven)]
    assert len(recorded) == 6
    assert differences(recorded) == []
    live = replay(driven, recorded=(), scenes=["curve"])
    assert [(r.session_id, r.difference) for r in live] == [("curve/0", None)]
    assert [r.note for r in recorded] == [""] * 6


def test_at_wire_precision_live_services_are_rounded_as_they_were(tmp_path):
    driven = drive(
        tmp_path, *SMALL, "scenes.ids=curve", "run.wire_precision=float32", "sync.duration_s=1"
    )
    assert differences(replay(driven)) == differences(replay(driven, recorded=["policy"])) == []


def test_what_is_kept_is_a_run_with_the_same_digest_and_scores(run, tmp_path):
    replay(run, out=tmp_path / "again")
    assert digest_run(tmp_path / "again") == digest_run(run)
    before, after = read_results(run), read_results(tmp_path / "again")
    assert [r.metrics for r in before] == [r.metrics for r in after]


def test_a_log_alone_is_enough(run, tmp_path):
    log = tmp_path / "bug.mcap"
    log.write_bytes(log_of(run).read_bytes())
    found = replay(log)
    assert [(r.session_id, r.difference) for r in found] == [("curve/0", None)]


# ----------------------------------------------------------- what differs is found first


@pytest.mark.parametrize("service", KINDS)
@settings(max_examples=4)
@given(which=st.integers(0, 10_000), place=st.integers(0, 1_000_000))
def test_one_byte_of_an_answer_is_the_first_difference_to_the_live_service(
    run, service, which, place
):
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.mcap"
        time_us, column = altered(log_of(run), log, service, which, place)
        found = replay(log, recorded=[kind for kind in KINDS if kind != service])[0].difference
    assert found is not None
    assert (found.service, found.time_us) == (service, time_us)
    assert found.field.endswith(column)
    assert found.found != found.recorded
    assert found.session_id == "curve/0"


def test_a_changed_answer_shows_in_the_loop_where_its_service_is_recorded(run, tmp_path):
    plan_us, _ = altered(log_of(run), tmp_path / "log.mcap", "policy", 3, 7)
    found = replay(tmp_path / "log.mcap")[0].difference
    assert (found.time_us, found.message) == (plan_us, "vehicle")
    assert found.field.startswith("request.plan_local_to_rig[1].")
    assert "the controller was asked something else" in str(found)


def test_a_difference_within_the_tolerance_is_none(run, tmp_path):
    altered(log_of(run), tmp_path / "log.mcap", "traffic", 5, 0)
    live = [kind for kind in KINDS if kind != "traffic"]
    assert replay(tmp_path / "log.mcap", recorded=live, tolerance=1e-9)[0].difference is None
    assert replay(tmp_path / "log.mcap", recorded=live)[0].difference is not None


def test_another_policy_is_asked_what_the_recorded_one_was(run):
    found = replay(run, ["policy=tests.plugins:Straight"])
    assert [r.difference.service for r in found] == ["policy", "policy"]
    assert [r.difference.message for r in found] == ["plan", "plan"]
    assert "declares other inputs" in found[0].note
    set_anew = replay(run, ["policy.target_speed_mps=1"])
    assert "plan.local_to_rig" in set_anew[0].difference.field


def test_messages_that_are_missing_or_too_many_are_named(run, tmp_path):
    def without(topic: str, number: int, data: bytes) -> bytes | None:
        return None if (topic, number) == (topics.TRAFFIC, 2) else data

    log = rewritten(log_of(run), tmp_path / "log.mcap", without)
    found = first_difference(log_of(run), log)
    assert (found.service, found.field) == ("traffic", "")
    assert "traffic's answer at 200000 us, recorded the ground's answer" in str(found)
    assert first_difference(log, log) is None


# ------------------------------------------------------- failed, cut off, old and foreign


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("policy=tests.plugins:FailsOnSeedOne",), "policy"),
        (("policy=tests.plugins:NoPlan",), "policy"),
        (("traffic=tests.plugins:BrokenTraffic",), "traffic"),
        (("controller=tests.plugins:Silent",), "controller"),
        (("ground=tests.plugins:FlatPoses",), "ground"),
    ],
)
def test_a_failed_rollout_replays_up_to_its_failure(tmp_path, words, kind):
    driven = drive(
        tmp_path, "renderer=none", "scenes.ids=curve", "run.seeds=2", "sync.duration_s=1.5", *words
    )
    failed = [r for r in read_results(driven) if r.outcome != "completed"]
    assert failed
    for recorded in (None, [k for k in KINDS if k != kind]):
        found = replay(driven, recorded=recorded)
        assert differences(found) == []
        notes = [r.note for r in found if r.note]
        assert len(notes) == len(failed)
        assert failed[0].error["what"] in notes[0]
    if words[0].endswith("FailsOnSeedOne"):
        mended = replay(driven, ["policy=tests.plugins:Straight"])
        assert mended[0].difference is None
        assert "recorded a failure (PolicyError: policy raised RuntimeError" in str(
            mended[1].difference
        )


def test_a_log_that_is_cut_off_replays_up_to_the_cut(run, tmp_path):
    data = log_of(run).read_bytes()
    log = tmp_path / "log.mcap"
    # The scene comes first and is needed; messages are in the chunks after it.
    log.write_bytes(data[: len(data) - len(data) // 6])
    reader = LogReader(log)
    assert reader.problem
    if not any(True for _ in reader.messages((topics.COMMIT,))):
        with pytest.raises(RunFolderError):
            replay(log)
        return
    found = replay(log)[0]
    assert found.difference is None
    assert "the log ends after the commit at" in found.note


@pytest.mark.parametrize("kept", [3, 9, 20, 41])
def test_a_rollout_that_was_interrupted_replays_up_to_there(run, tmp_path, kept):
    count = 0

    def first(topic: str, number: int, data: bytes) -> bytes | None:
        nonlocal count
        count += topic.startswith(topics.PREFIX)
        return data if count <= kept else None

    log = rewritten(log_of(run), tmp_path / "log.mcap", first)
    for recorded in (None, (), ["policy"], ["renderer", "ground"]):
        found = replay(log, recorded=recorded)[0]
        assert found.difference is None
        assert found.note


def test_a_log_of_an_earlier_version_says_less_and_replays(run, tmp_path):
    def old(topic: str, number: int, data: bytes) -> bytes:
        if topic != topics.HEADER:
            return data
        header = pb.Header.FromString(data)
        config = json.loads(header.config_json)
        del config[DECLARED]
        header.config_json = json.dumps(config)
        return bytes(header.SerializeToString(deterministic=True))

    log = rewritten(log_of(run), tmp_path / "log.mcap", old)
    assert DECLARED not in Recording(log).header.config
    assert replay(log)[0].difference is None


def test_logs_that_cannot_be_replayed_say_why(run, tmp_path):
    def newer(topic: str, number: int, data: bytes) -> bytes:
        if topic != topics.HEADER:
            return data
        header = pb.Header.FromString(data)
        header.version = 9
        return bytes(header.SerializeToString(deterministic=True))

    log = rewritten(log_of(run), tmp_path / "newer.mcap", newer)
    with pytest.raises(RunFolderError, match="log version 9 is newer"):
        replay(log)
    bare = rewritten(log_of(run), tmp_path / "bare.mcap", lambda t, n, d: d, scene=False)
    with pytest.raises(RunFolderError, match=r"no attachment scene\.zip"):
        replay(bare)
    (tmp_path / "run" / "rollouts").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="holds no log"):
        replay(tmp_path / "run")
    with pytest.raises(RunFolderError, match="does not exist"):
        replay(tmp_path / "nowhere")
    (tmp_path / "text.mcap").write_text("no log")
    with pytest.raises(RunFolderError, match="no MCAP file"):
        replay(tmp_path / "text.mcap")
    (tmp_path / "rollout.asl").write_text("not looked into")
    with pytest.raises(RunFolderError, match="an ASL log does not tell") as caught:
        replay(tmp_path / "rollout.asl")
    assert "log.mcap" in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["sync.duration_s=3"], {}, "no setting of a service"),
        (["polcy=x"], {}, "Did you mean 'policy'"),
        (["policy=nonsense"], {}, "unknown policy"),
        (["policy=constant_velocity"], {"recorded": ["policy"]}, "cannot answer from the log"),
        ([], {"recorded": ["polic"]}, "Did you mean 'policy'"),
        ([], {"scenes": ["curv"]}, "Did you mean 'curve'"),
        ([], {"tolerance": float("nan")}, "tolerance"),
        ([], {"tolerance": -1.0}, "tolerance"),
        (["renderer=none"], {}, "nothing to draw with"),
        (["renderer.chunk=8"], {}, "frame by frame"),
    ],
)
def test_bad_input_is_named_before_anything_runs(run, words, options, said):
    with pytest.raises(InputError, match=said):
        replay(run, words, **options)


def test_a_replay_is_never_kept_in_the_run_that_it_replays(run):
    with pytest.raises(ConfigError, match="cannot be kept"):
        replay(run, out=run)


def test_a_masked_secret_is_asked_for(run, tmp_path):
    def masked(topic: str, number: int, data: bytes) -> bytes:
        if topic != topics.HEADER:
            return data
        header = pb.Header.FromString(data)
        config = json.loads(header.config_json)
        config["policy"]["api_key"] = "***"
        header.config_json = json.dumps(config)
        return bytes(header.SerializeToString(deterministic=True))

    log = rewritten(log_of(run), tmp_path / "log.mcap", masked)
    with pytest.raises(ConfigError, match="does not hold this secret"):
        replay(log, recorded=())
    assert replay(log)[0].difference is None

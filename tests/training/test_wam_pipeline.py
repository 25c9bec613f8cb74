from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from omniloop.cli.main import app
from omniloop.core.errors import ConfigError, RunFolderError
from omniloop.training import wam_pipeline
from omniloop.training.collect import Collected
from omniloop.training.wam_pipeline import STATE, PipelineConfig, run_pipeline


@pytest.fixture
def calls(monkeypatch):
    """What the stages were told; neither collects or trains, which have tests of their own.

    To collect takes a minute by a clock that else stands still.
    """
    told: list[tuple] = []
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(wam_pipeline, "time", clock)

    def collect(work, out, config, progress=None):
        told.append(("collect", len(work), config))
        clock.now += 60.0
        return Collected(rollouts=len(work))

    def train(data, out, config, progress=None, resume=False):
        told.append(("train", config.minutes, resume))
        if told[0] == "fail":
            raise KeyboardInterrupt
        return Path(out) / "wam.pt"

    wam_train = pytest.importorskip("omniloop.training.wam_train", reason="torch is missing")
    monkeypatch.setattr(wam_train, "train", train)
    monkeypatch.setattr(wam_pipeline, "collect", collect)
    monkeypatch.setattr(wam_pipeline, "require_torch", lambda: None)
    return told


def test_it_collects_then_trains_with_the_time_that_is_left(tmp_path, calls):
    made = run_pipeline(tmp_path / "o", PipelineConfig(minutes=10, rollouts=40, threads=1))
    assert made == tmp_path / "o" / "model" / "wam.pt"
    assert [c[0] for c in calls] == ["collect", "train"]
    assert calls[0][2].most_s == pytest.approx(180.0)
    assert calls[1][1] == pytest.approx(9)
    state = json.loads((tmp_path / "o" / STATE).read_text())
    assert state["done"] == ["collect", "train"]


@pytest.mark.parametrize(("name", "value"), [("size", "huge"), ("device", "tpu")])
def test_a_size_or_device_that_there_is_not_is_refused_before_anything(
    tmp_path, calls, name, value
):
    with pytest.raises(ConfigError, match=value):
        run_pipeline(tmp_path / "o", PipelineConfig(**{name: value}))
    assert calls == []


def test_a_large_model_has_settings_of_its_own():
    wam_train = pytest.importorskip("omniloop.training.wam_train", reason="torch is missing")
    large = wam_train.TrainConfig.of_size("large", minutes=600.0)
    assert (large.model.dim, large.batch, large.minutes) == (512, 64, 600.0)


def test_in_dagger_rounds_the_model_drives_and_the_expert_labels(tmp_path, calls):
    run_pipeline(tmp_path / "o", PipelineConfig(minutes=9, rollouts=60, dagger=1, threads=1))
    assert [c[0] for c in calls] == ["collect", "train", "collect", "train"]
    own = calls[2]
    assert own[2].policy["driver"] == "wam"
    assert own[2].policy["driver_arguments"]["checkpoint"].endswith("wam.pt")
    assert 0 < own[1] < 60
    assert [c[2] for c in calls if c[0] == "train"] == [False, True]
    assert calls[1][1] == pytest.approx((9 - 1) / 2)  # the first of two rounds
    assert calls[3][1] == pytest.approx(9 - 2)


def test_an_interrupted_training_goes_on_where_it_was(tmp_path, calls, monkeypatch):
    calls.append("fail")
    config = PipelineConfig(minutes=10, rollouts=40, threads=1)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(tmp_path / "o", config)
    calls.clear()
    run_pipeline(tmp_path / "o", config, resume=True)
    assert [c[0] for c in calls] == ["train"]
    assert calls[0][2] is True


def test_a_folder_in_use_is_not_touched_without_resume(tmp_path, calls):
    config = PipelineConfig(minutes=1, rollouts=8, threads=1)
    run_pipeline(tmp_path / "o", config)
    with pytest.raises(ConfigError, match="--resume"):
        run_pipeline(tmp_path / "o", config)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="something else"):
        run_pipeline(tmp_path / "p", config)


def test_resuming_with_other_options_is_refused(tmp_path, calls):
    run_pipeline(tmp_path / "o", PipelineConfig(rollouts=8, threads=1))
    with pytest.raises(ConfigError, match="--rollouts was 8 and is 9"):
        run_pipeline(tmp_path / "o", PipelineConfig(rollouts=9, threads=1), resume=True)


def test_a_damaged_state_is_named(tmp_path, calls):
    (tmp_path / STATE).write_text("{")
    with pytest.raises(RunFolderError, match=STATE):
        run_pipeline(tmp_path, PipelineConfig(threads=1), resume=True)


@pytest.mark.parametrize("name", ["minutes", "rollouts", "threads"])
def test_an_option_out_of_range_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        PipelineConfig(**{name: 0})


def test_without_torch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(wam_pipeline, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="PyTorch") as caught:
        run_pipeline(tmp_path / "o", PipelineConfig())
    assert "pip install" in caught.value.remedy
    assert not (tmp_path / "o").exists()


def test_the_command_runs_the_pipeline_and_prints_the_checkpoint(tmp_path, calls):
    out = str(tmp_path / "o")
    result = CliRunner().invoke(
        app, ["train", "wam", "--out", out, "--rollouts", "8", "--minutes", "1", "--threads", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "wam.pt" in result.output.replace("\n", "")


def test_the_command_says_how_to_go_on_after_an_interruption(tmp_path, calls):
    calls.append("fail")
    out = str(tmp_path / "o")
    result = CliRunner().invoke(app, ["train", "wam", "--out", out, "--threads", "1"])
    assert result.exit_code == 130
    assert "--resume" in result.output

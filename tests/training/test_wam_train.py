import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from omniloop.core.errors import ConfigError, RunFolderError  # noqa: E402
from omniloop.policies.wam import checkpoint  # noqa: E402
from omniloop.policies.wam.autoencoder import Autoencoder  # noqa: E402
from omniloop.training.wam_dataset import (  # noqa: E402
    Augment,
    Sampler,
    encode,
    sample_images,
    shard_files,
)
from omniloop.training.wam_train import TrainConfig, train  # noqa: E402
from tests.policies.wam.toy import tiny_config, write_toy_shards  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_toy_shards(folder / "train", 4)
    write_toy_shards(folder / "val", 4, seed=1)
    return folder


def settings(**changes):
    given = {
        "minutes": None, "steps": 6, "threads": 1, "batch": 4, "frames": 3, "ema": 0.9,
        "learning_rate": 3e-3, "autoencoder_images": 8, "autoencoder_steps": 4,
        "warmup_steps": 5, "evaluate_sequences": 8, "model": tiny_config(),
    }  # fmt: skip
    return TrainConfig(**{**given, **changes})


FULL = settings(steps=300, batch=8, autoencoder_steps=20)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A training of 300 steps with what it said on the way: one for all that is asked of it."""
    said = []
    out = tmp_path_factory.mktemp("trained")
    path = train(data, out, FULL, lambda *told: said.append(told))
    return path, said, json.loads((out / "metrics.json").read_text())


@pytest.mark.timeout(900)  # some seconds of work, and a busy machine
def test_a_training_learns_and_says_what_it_did_and_is_left_alone(trained, data):
    losses_fall_and_the_model_beats_constant_velocity_by_its_eyes(trained)
    constant_velocity_is_scored_by_hand(trained)
    progress_names_stages_in_their_order_and_ends_each(trained)
    the_checkpoint_drives_and_knows_what_it_was_trained_on(trained)
    the_card_states_losses_errors_and_the_training_set(trained)
    the_folder_is_left_alone_unless_it_is_resumed(trained, data)


def losses_fall_and_the_model_beats_constant_velocity_by_its_eyes(trained):
    _, _, metrics = trained
    first, last = metrics["training"][0], metrics["training"][-1]
    assert last["plan_loss"] < 0.6 * first["plan_loss"]
    assert last["video_loss"] < 0.75 * first["video_loss"]
    scores = metrics["validation"]
    assert scores["ade_6.4s/zero"] < 0.6 * scores["ade_6.4s/constant_velocity"]
    assert scores["ade_6.4s/zero"] < 0.6 * scores["ade_6.4s/black"]


def constant_velocity_is_scored_by_hand(trained):
    """The toy's plans bend aside by 0.3 t^2 metres."""
    wanted = np.mean(0.3 * (0.1 * np.arange(1, 17)) ** 2)
    assert trained[2]["validation"]["ade_1.6s/constant_velocity"] == pytest.approx(wanted, rel=1e-4)


def progress_names_stages_in_their_order_and_ends_each(trained):
    stages = list(dict.fromkeys(stage for stage, _, _ in trained[1]))
    assert stages == ["autoencoder", "encode train", "encode val", "train", "evaluate"]
    for stage in stages:
        shares = [share for name, share, _ in trained[1] if name == stage]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)


def the_checkpoint_drives_and_knows_what_it_was_trained_on(trained):
    held = checkpoint.load(trained[0])
    assert held.facts["training_decisions"] == 40
    assert held.facts["steps"] == FULL.steps
    assert trained[0].stat().st_size < 20e6


def the_card_states_losses_errors_and_the_training_set(trained):
    card = (trained[0].parent / "model_card.md").read_text()
    scores = trained[2]["validation"]
    assert f"plan {scores['plan_loss']:.4f}" in card
    assert f"{scores['ade_6.4s/zero']:.2f} |" in card
    assert "4 rollouts, 40 decisions" in card
    assert "black images" in card


def the_folder_is_left_alone_unless_it_is_resumed(trained, data):
    out = trained[0].parent
    before = trained[0].read_bytes()
    with pytest.raises(RunFolderError, match="holds a training"):
        train(data, out, FULL)
    with pytest.raises(ConfigError, match="batch is 5"):
        train(data, out, dataclasses.replace(FULL, batch=5), resume=True)
    assert trained[0].read_bytes() == before


def weights_of(out):
    state = torch.load(out / "state.pt", weights_only=True)
    return state["model"], state["averaged"], state["optimizer"]


def test_a_resumed_training_ends_at_the_weights_of_an_undisturbed_one(data, tmp_path):
    class Stopped(Exception):
        pass

    def stop_at_20(stage, share, facts):
        if stage == "train" and facts["step"] == 20:
            raise Stopped

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = settings(steps=22, checkpoint_s=0.0)
    train(data, whole, config)
    with pytest.raises(Stopped):
        train(data, parts, config, stop_at_20)
    assert torch.load(parts / "state.pt", weights_only=True)["step"] == 19
    train(data, parts, config, resume=True)
    for a, b in zip(weights_of(whole)[:2], weights_of(parts)[:2], strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    moments = [weights_of(out)[2]["state"] for out in (whole, parts)]
    assert all(torch.equal(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"]) for k in moments[0])
    assert (whole / "wam.pt").stat().st_size == (parts / "wam.pt").stat().st_size


def test_a_resumed_training_takes_in_shards_that_came_since(data, tmp_path):
    folder, out = tmp_path / "data", tmp_path / "out"
    write_toy_shards(folder / "train", 2)
    write_toy_shards(folder / "val", 1, seed=1)
    train(folder, out, settings())
    write_toy_shards(folder / "train", 2, seed=5)
    train(folder, out, settings(steps=8), resume=True)
    facts = json.loads((out / "metrics.json").read_text())["facts"]
    assert facts["training_rollouts"] == 4
    assert facts["steps"] == 8


def test_a_time_budget_ends_the_training_which_leaves_torch_as_it_found_it(
    data, tmp_path, monkeypatch
):
    seconds = itertools.count()  # one passes between any two looks at the clock
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    for module in ("wam_train", "wam_autoencoder"):
        monkeypatch.setattr(f"omniloop.training.{module}.time", clock)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    train(data, tmp_path / "out", settings(minutes=0.5, threads=3))
    facts = json.loads((tmp_path / "out" / "metrics.json").read_text())["facts"]
    assert 5 <= facts["steps"] < 30
    assert 0.5 <= facts["minutes"] < 0.7
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_missing_or_short_data_are_named(tmp_path):
    with pytest.raises(RunFolderError, match="no shard"):
        train(tmp_path, tmp_path / "out", settings())
    for split in ("train", "val"):
        write_toy_shards(tmp_path / split, 1, decisions=2)
    with pytest.raises(RunFolderError, match="no rollout has 3 decisions"):
        train(tmp_path, tmp_path / "out", settings())


@pytest.mark.parametrize("change", [{"steps": 0}, {"minutes": -1.0}, {"frames": 1}, {"batch": 0}])
def test_impossible_settings_are_refused_by_name(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        settings(**change)


@pytest.fixture(scope="module")
def sequences(data, tmp_path_factory):
    return encode(
        shard_files(data / "train"), tmp_path_factory.mktemp("latents"), Autoencoder(2, 16), 3, "k",
        lambda share: None,
    )  # fmt: skip


def test_latents_are_those_of_the_images_in_the_order_of_the_shards(data, sequences):
    from omniloop.training.shards import read_shard

    autoencoder = Autoencoder(2, 16)
    with torch.no_grad():
        autoencoder.mean.fill_(1.0)
    files = shard_files(data / "train")
    again = encode(files, data / "latents", autoencoder, 3, "key", lambda share: None)
    last = torch.from_numpy(read_shard(files[-1])["wide"][-1:])
    torch.testing.assert_close(
        torch.from_numpy(np.array(again.latents[-1])).float(), autoencoder.encode(last)[0].detach(),
        atol=5e-3, rtol=1e-2,
    )  # fmt: skip
    assert again.first.tolist() == [0, 10, 20, 30]
    assert len(sequences) == 40


def test_latents_are_made_once_for_the_same_shards_and_weights(data, tmp_path):
    told = []
    files = shard_files(data / "train")
    for key in ("a", "a", "b"):
        encode(files, tmp_path, Autoencoder(2, 16), 3, key, told.append)
    assert told == [0.25, 0.5, 0.75, 1.0] * 2


def test_sequences_stay_in_one_rollout_in_the_order_of_time(sequences):
    sampler = Sampler(sequences, 64, 4, 0, Augment(skip=0.5))
    rng = np.random.default_rng(0)
    for _ in range(20):
        index = sampler._index(rng, 64, 4)
        assert (np.diff(index, axis=1) > 0).all()
        assert (index[:, 0] // 10 == index[:, -1] // 10).all()
        steps = np.diff(index[:, 1:], axis=1)
        assert np.isin(steps, [1, 2]).all()
        assert (steps == steps[:, :1]).all()


def test_a_step_always_has_the_same_batch_and_others_have_another(sequences):
    one, again, other = (Sampler(sequences, 8, 3, s, Augment())(5) for s in (0, 0, 1))
    assert torch.equal(one.latents, again.latents)
    assert torch.equal(one.ego.has_motion, again.ego.has_motion)
    assert not torch.equal(one.capture_s, other.capture_s)


def test_what_is_hidden_is_hidden_as_often_as_asked(sequences):
    batch = Sampler(sequences, 256, 3, 0, Augment(drop_motion=0.3))(0)
    assert batch.ego.has_motion.float().mean().item() == pytest.approx(0.7, abs=0.06)
    assert Sampler(sequences, 16, 3, 0, Augment(drop_motion=0.0))(0).ego.has_motion.all()


def test_images_for_the_autoencoder_come_from_all_shards(data):
    images = sample_images(shard_files(data / "train"), 8, 0)
    assert images.shape == (8, 128, 256, 3)
    sides = {bool(image[:, :72].float().mean() > image[:, 184:].float().mean()) for image in images}
    assert sides == {True, False}

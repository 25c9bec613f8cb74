import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("diffusers", reason="needs the extra `vae`")

from omniloop.configs.compose import compose  # noqa: E402
from omniloop.core.errors import ConfigError, PluginError, RunFolderError  # noqa: E402
from omniloop.policies.wam.vae import WEIGHTS, reference_of  # noqa: E402
from omniloop.runner.run import execute  # noqa: E402
from omniloop.training.wam_pipeline import PipelineConfig, run_pipeline  # noqa: E402
from omniloop.training.wam_train import TrainConfig, train  # noqa: E402
from tests.policies.wam.toy import tiny_config, write_tiny_vae, write_toy_shards  # noqa: E402


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return write_tiny_vae(tmp_path_factory.mktemp("vae") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_toy_shards(folder / "train", 3, decisions=4)
    write_toy_shards(folder / "val", 1, decisions=4, seed=1)
    return folder


def settings(vae, **changes):
    given = {
        "minutes": None, "steps": 3, "threads": 1, "batch": 2, "frames": 3,
        "evaluate_sequences": 4, "model": tiny_config(patch=8), "vae": str(vae),
    }  # fmt: skip
    return TrainConfig(**{**given, **changes})


@pytest.fixture(scope="module")
def trained(vae, data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("out"), settings(vae))


def test_a_model_trained_on_a_vae_drives_with_it_and_gives_the_same_bytes_twice(
    vae, trained, tmp_path
):
    logs = []
    for number in range(2):
        folder = tmp_path / str(number)
        execute(compose([
            "policy=wam", f"policy.checkpoint={trained}", f"policy.vae={vae}", "renderer.chunk=0",
            "renderer.fps=5", "renderer.width=256", "renderer.height=128", "scenes.ids=[curve]",
            "sync.duration_s=3", f"run.dir={folder}",
        ]))  # fmt: skip
        logs.append([file.read_bytes() for file in folder.rglob("log.mcap")])
    assert len(logs[0]) == 1
    assert logs[0] == logs[1]


def test_the_card_and_the_facts_name_the_vae(vae, trained):
    sha256 = reference_of(vae, "test").sha256
    assert sha256 in (trained.parent / "model_card.md").read_text()
    facts = json.loads((trained.parent / "metrics.json").read_text())["facts"]
    assert facts["settings"]["model"]["vae"]["sha256"] == sha256
    assert "vae" not in facts["settings"]


def test_latents_have_mean_0_and_deviation_1_over_the_training_set(trained):
    import numpy as np

    latents = np.load(trained.parent / "latents" / "train" / "latents.npy").astype(np.float64)
    assert latents.shape == (12, 3, 16, 32)
    assert abs(latents.mean(axis=(0, 2, 3))).max() < 0.02
    assert latents.std(axis=(0, 2, 3)) == pytest.approx(1.0, abs=0.02)


def test_a_training_goes_on_with_the_vae_moved_but_not_with_another(vae, data, tmp_path):
    train(data, tmp_path / "out", settings(vae))
    moved = shutil.copytree(vae, tmp_path / "elsewhere" / "tiny")
    train(data, tmp_path / "out", settings(moved, steps=4), resume=True)
    other = write_tiny_vae(tmp_path / "tiny", seed=1)
    with pytest.raises(ConfigError, match="resume with the settings"):
        train(data, tmp_path / "out", settings(other, steps=5), resume=True)


def test_latents_that_are_not_finite_end_the_training(vae, data, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(vae, tmp_path / "vae")
    weights = {name: 1e30 * w for name, w in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(PluginError, match=r"latents that are not finite[\s\S]*--vae"):
        train(data, tmp_path / "out", settings(folder))


def test_no_time_left_after_encoding_is_an_error_and_no_untrained_model(vae, data, tmp_path):
    with pytest.raises(RunFolderError, match="took all of the time"):
        train(data, tmp_path, settings(vae, minutes=1e-6))
    assert not (tmp_path / "wam.pt").exists()


def test_a_vae_that_cannot_be_used_is_refused_before_anything_is_collected(tmp_path):
    with pytest.raises(PluginError, match=r"no such folder[\s\S]*--vae"):
        run_pipeline(tmp_path / "o", PipelineConfig(vae=str(tmp_path / "none")))
    assert not (tmp_path / "o").exists()


def test_a_model_of_a_vae_needs_its_folder(vae):
    with pytest.raises(ConfigError, match="no folder"):
        TrainConfig(model=tiny_config(patch=8).with_vae(reference_of(vae, "test")))

import importlib.util
import json
import socket

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from omniloop.core.errors import ConfigError, PluginError  # noqa: E402
from omniloop.core.registry import create  # noqa: E402
from omniloop.policies.wam import checkpoint, vae  # noqa: E402
from omniloop.policies.wam.config import VaeReference, WamConfig  # noqa: E402
from omniloop.policies.wam.model import WorldActionModel  # noqa: E402
from omniloop.policies.wam.vae import CONFIG, WEIGHTS, load_vae, reference_of  # noqa: E402
from tests.policies.wam.toy import random_checkpoint, tiny_config, write_tiny_vae  # noqa: E402

diffusers = pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None, reason="needs the extra `vae`"
)
KINDS = pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
REFERENCE = VaeReference("some", 3, 8, 0.5, "ab" * 32)


@pytest.fixture
def folder(tmp_path):
    return write_tiny_vae(tmp_path / "tiny")


@pytest.fixture
def path(tmp_path, folder):
    """A checkpoint trained with the VAE of `folder`."""
    found = reference_of(folder, "test")
    config = tiny_config(patch=8).with_vae(found)
    held = load_vae(folder, "test", found)
    held.set_statistics(images(4))
    checkpoint.save(
        tmp_path / "wam.pt", checkpoint.Checkpoint(held, WorldActionModel(config), {"steps": 0})
    )
    return tmp_path / "wam.pt"


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, 128, 256, 3), dtype=np.uint8))


def refused(folder, *words):
    where = f"--vae {folder}"
    with pytest.raises(PluginError) as caught:
        load_vae(folder, where, reference_of(folder, where))
    for word in (*words, str(folder)):
        assert word in str(caught.value)


def set_config(folder, **changes):
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@diffusers
@KINDS
def test_channels_and_stride_are_those_of_the_latents(tmp_path, kind):
    found = reference_of(write_tiny_vae(tmp_path / "v", kind), "test")
    held = load_vae(tmp_path / "v", "test", found)
    config = tiny_config(patch=8).with_vae(found)
    assert found.name == "v"
    assert (config.latent_channels, config.latent_stride) == (3, 8)
    latents = held.encode(images(2))
    assert latents.shape == (2, *config.latent_shape)
    assert latents.dtype == torch.float32
    assert held.decode(latents).shape == (2, 3, 128, 256)


@diffusers
def test_latents_are_the_scaled_mode_of_the_posterior_by_hand(folder):
    from diffusers import AutoencoderKL

    held = load_vae(folder, "test", reference_of(folder, "test"))
    shown = images(2)
    own = AutoencoderKL.from_pretrained(folder)
    with torch.no_grad():
        pixels = shown.permute(0, 3, 1, 2).float() / 127.5 - 1
        posterior = own.encode(pixels).latent_dist
        torch.testing.assert_close(held.encode(shown), 0.18215 * posterior.mean)
        pictures = (own.decode(posterior.mean).sample + 1) / 2
        torch.testing.assert_close(held.decode(held.encode(shown)), pictures, atol=1e-5, rtol=1e-4)


@diffusers
@KINDS
def test_latents_are_normalised_and_nothing_is_drawn(tmp_path, kind):
    folder = write_tiny_vae(tmp_path / "v", kind)
    held = load_vae(folder, "test", reference_of(folder, "test"))
    shown = images(3)
    held.set_statistics(shown)
    state = torch.random.get_rng_state()
    latents = held.encode(shown)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(latents, held.encode(shown))
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


@diffusers
def test_nothing_is_asked_of_a_network(folder, monkeypatch):
    def asked(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", asked)
    load_vae(folder, "test", reference_of(folder, "test"))
    refused(folder.parent / "stabilityai" / "sd-vae-ft-mse", "no such folder")


@diffusers
def test_half_precision_weights_are_computed_in_single(tmp_path, folder):
    from diffusers import AutoencoderKL

    AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float16).save_pretrained(tmp_path / "h")
    held = load_vae(tmp_path / "h", "test", reference_of(tmp_path / "h", "test"))
    assert {w.dtype for w in held.parameters()} == {torch.float32}


@diffusers
def test_a_missing_file_is_named(folder):
    (folder / WEIGHTS).rename(folder / "weights.bin")
    refused(folder, f"no {WEIGHTS}")
    (folder / CONFIG).unlink()
    refused(folder, f"no {CONFIG}")


@diffusers
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"_class_name": "UNet2DModel"}, ("UNet2DModel", "AutoencoderKL")),
     ({"latent_channels": 0}, ("latent_channels is 0",)),
     ({"scaling_factor": float("nan")}, ("scaling_factor is nan",)),
     ({"scaling_factor": None}, ("scaling_factor is None",)),
     ({"block_out_channels": 4}, ("block_out_channels is 4",)),
     ({"in_channels": 1}, ("in_channels is 1",)),
     ({"block_out_channels": [4] * 9}, ("stride of 256", "256 x 128")),
     ({"block_out_channels": [4] * 3}, ("cannot be loaded",)),
     ({"latent_channels": 5}, ("cannot be loaded",)),
     ({"layers_per_block": 2}, ("missing keys",)),
     ({"use_quant_conv": False}, ("unexpected keys",))],
)  # fmt: skip
def test_a_config_that_cannot_be_is_refused_by_name(folder, changes, words):
    set_config(folder, **changes)
    refused(folder, *words)


@diffusers
def test_a_setting_left_out_is_as_diffusers_has_it(folder):
    settings = json.loads((folder / CONFIG).read_text())
    del settings["scaling_factor"]
    (folder / CONFIG).write_text(json.dumps(settings))
    assert reference_of(folder, "test").scaling_factor == 0.18215


@diffusers
@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_settings_is_refused(folder, text):
    (folder / CONFIG).write_text(text)
    refused(folder, CONFIG)


@diffusers
def test_weights_that_are_damaged_or_not_finite_are_refused(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    weights["encoder.conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    refused(folder, "encoder.conv_in.weight", "not finite")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    refused(folder, "cannot be loaded")


@diffusers
def test_weights_of_old_releases_have_other_names_and_load_alike(folder, tmp_path):
    """`stabilityai/sd-vae-ft-mse`, for one, is stored so."""
    from safetensors.torch import load_file, save_file

    was = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(folder / WEIGHTS)
    for name in [n for n in weights if "attentions" in n]:
        for new, old in was.items():
            if f".{new}." in name:
                weights[name.replace(new, old)] = weights.pop(name)
    old_folder = tmp_path / "old"
    old_folder.mkdir()
    (old_folder / CONFIG).write_text((folder / CONFIG).read_text())
    save_file(weights, old_folder / WEIGHTS, metadata={"format": "pt"})
    made = [load_vae(f, "test", reference_of(f, "test")) for f in (folder, old_folder)]
    assert torch.equal(made[0].encode(images(1)), made[1].encode(images(1)))


def test_without_diffusers_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(vae.importlib.util, "find_spec", lambda name: None)
    refused(tmp_path, "needs diffusers", "omniloop[vae]")


@diffusers
def test_a_checkpoint_holds_the_reference_and_statistics_but_not_the_weights(folder, path):
    content = torch.load(path, weights_only=True)
    assert sorted(content["autoencoder"]) == ["deviation", "mean"]
    assert content["config"]["vae"]["name"] == "tiny"
    held = checkpoint.load(path, vae=folder)
    direct = load_vae(folder, "test", reference_of(folder, "test"))
    direct.set_statistics(images(4))
    assert torch.equal(held.autoencoder.encode(images(1)), direct.encode(images(1)))
    assert not any(w.requires_grad for w in held.autoencoder.parameters())


def test_a_checkpoint_without_a_vae_is_written_as_before(tmp_path):
    content = torch.load(random_checkpoint(tmp_path / "wam.pt"), weights_only=True)
    assert content["version"] == 1
    assert "vae" not in content["config"]
    assert WamConfig.from_dict(content["config"]) == tiny_config()


@diffusers
def test_the_vae_may_lie_elsewhere_when_driving_but_must_be_named(folder, path):
    elsewhere = folder.rename(folder.with_name("moved"))
    made = create("policy", "wam", {"checkpoint": str(path), "vae": str(elsewhere)})
    assert made.network.config.vae.name == "tiny"
    with pytest.raises(PluginError, match=r"VAE 'tiny'[\s\S]*policy\.vae=FOLDER"):
        create("policy", "wam", {"checkpoint": str(path)})
    with pytest.raises(PluginError, match=r"no such folder[\s\S]*policy\.vae="):
        create("policy", "wam", {"checkpoint": str(path), "vae": str(folder)})


@diffusers
def test_another_vae_than_that_of_the_training_is_refused_with_both_hashes(tmp_path, path, folder):
    other = write_tiny_vae(tmp_path / "other", seed=1)
    with pytest.raises(PluginError, match="another one than 'tiny'") as caught:
        checkpoint.load(path, vae=other)
    for found in (folder, other):
        assert reference_of(found, "test").sha256 in str(caught.value)
    set_config(folder, scaling_factor=0.5)
    with pytest.raises(PluginError, match=r"scaling factor 0\.5, SHA[\s\S]*0\.18215"):
        checkpoint.load(path, vae=folder)


def test_a_vae_for_a_checkpoint_that_has_none_is_refused(tmp_path):
    weights = random_checkpoint(tmp_path / "wam.pt")
    with pytest.raises(PluginError, match="autoencoder of its own"):
        create("policy", "wam", {"checkpoint": str(weights), "vae": str(tmp_path)})


def test_a_config_comes_back_from_plain_data_with_its_vae():
    config = tiny_config().with_vae(REFERENCE)
    assert WamConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    data = config.as_dict()
    del data["vae"]["sha256"]
    with pytest.raises(ConfigError, match=r"'vae\.sha256' is missing"):
        WamConfig.from_dict(data)


@pytest.mark.parametrize("change", [{"channels": 5}, {"stride": 16}])
def test_latents_of_another_shape_than_the_vae_has_are_refused(change):
    data = tiny_config().with_vae(REFERENCE).as_dict()
    data["vae"].update(change)
    with pytest.raises(ConfigError, match="vae is"):
        WamConfig.from_dict(data)


def test_a_stride_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ConfigError, match=r"latent_stride is 24[\s\S]*256 x 128"):
        tiny_config().with_vae(VaeReference("some", 3, 24, 0.5, "ab"))

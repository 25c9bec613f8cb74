import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from omniloop.core.errors import PluginError  # noqa: E402
from omniloop.core.registry import create  # noqa: E402
from omniloop.policies.wam import checkpoint  # noqa: E402
from tests.policies.wam.toy import random_checkpoint  # noqa: E402


@pytest.fixture
def path(tmp_path):
    return random_checkpoint(tmp_path / "wam.pt")


def altered(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def refused(path, *words):
    with pytest.raises(PluginError) as caught:
        create("policy", "wam", {"checkpoint": str(path), "device": "cpu"})
    for word in (*words, str(path)):
        assert word in str(caught.value)


def test_what_is_written_is_read_to_the_half_precision_that_it_is_kept_in(path):
    content = torch.load(path, weights_only=True)
    held = checkpoint.load(path)
    for name, weight in held.model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, content["model"][name].float())
    assert held.facts == {"steps": 0}


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "none.pt", "no such checkpoint")


@pytest.mark.parametrize("data", [b"", b"weights", b"PK\x03\x04 cut off"])
def test_a_file_that_torch_cannot_read_is_refused(tmp_path, data):
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    refused(path, "cannot be read")


def test_a_file_that_holds_code_is_refused_without_running_it(tmp_path):
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"format": Evil()}, path)
    refused(path, "cannot be read")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    refused(path, "no checkpoint of a world-action model")


def test_another_version_is_named(path):
    refused(altered(path, lambda c: c.update(version=7)), "version 7", "reads 1")


def test_a_weight_of_another_shape_is_named_with_both_shapes(path):
    def change(content):
        content["model"]["backbone.place"] = torch.zeros(3, 5)

    refused(altered(path, change), "model.backbone.place", "(3, 5)", "(8, 32)")


def test_a_weight_that_is_missing_or_unknown_is_named(path):
    refused(
        altered(path, lambda c: c["model"].pop("head.out.bias")), "model.head.out.bias is missing"
    )


def test_a_weight_that_is_not_finite_is_named(path):
    def change(content):
        content["autoencoder"]["decoder.0.bias"][1] = float("nan")

    refused(altered(path, change), "autoencoder.decoder.0.bias", "not finite")


def test_unknown_sizes_are_refused(path):
    refused(altered(path, lambda c: c["config"].update(depth=3)), "'depth' is unknown")


def test_no_room_for_the_model_says_so(path, monkeypatch):
    def no_room(self, device):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore lines")

    monkeypatch.setattr(torch.nn.Module, "to", no_room)
    refused(path, "cannot be put on cpu", "out of memory", "policy.device=cpu")

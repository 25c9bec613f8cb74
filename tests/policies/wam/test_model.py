import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from omniloop.core.errors import ConfigError  # noqa: E402
from omniloop.policies.wam import flow  # noqa: E402
from omniloop.policies.wam.autoencoder import Autoencoder  # noqa: E402
from omniloop.policies.wam.config import WamConfig  # noqa: E402
from omniloop.policies.wam.head import UNetHead  # noqa: E402
from omniloop.policies.wam.losses import video_times  # noqa: E402
from omniloop.policies.wam.model import Whitening, WorldActionModel  # noqa: E402
from tests.policies.wam.toy import tiny_config  # noqa: E402


def plans(count, seed=0):
    rng = np.random.default_rng(seed)
    seconds = 0.1 * np.arange(1, 65)
    speed = rng.uniform(0, 15, count)
    out = np.zeros((count, 64, 3))
    out[..., 0] = speed[:, None] * seconds + rng.normal(0, 1, (count, 1)) * seconds**2 / 2
    out[..., 1] = rng.normal(0, 0.5, (count, 1)) * seconds**2 / 2
    out[..., 2] = rng.normal(0, 0.1, (count, 1)) * seconds
    return torch.from_numpy(out).float(), torch.from_numpy(speed).float()


def test_whitening_gives_plans_back_and_standard_latents():
    given, speed = plans(400)
    whitening = Whitening()
    whitening.fit(given, speed, floor_m=1.0)
    latents = whitening.whiten(given, speed)
    torch.testing.assert_close(whitening.plans(latents, speed), given, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(latents.mean(dim=0), torch.zeros(192), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std(dim=0), whitening.deviation, atol=5e-3, rtol=1e-2)
    assert (whitening.deviation > 0.9).sum() == 3  # the plans have three degrees of freedom


def test_the_latent_zero_is_the_mean_residual_to_constant_velocity():
    whitening = Whitening()
    straight = torch.zeros((2, 64, 3))
    speed = torch.tensor([0.0, 10.0])
    straight[..., 0] = speed[:, None] * 0.1 * torch.arange(1, 65)
    torch.testing.assert_close(whitening.plans(torch.zeros((2, 192)), speed), straight)


def test_the_head_narrows_and_widens_with_skips_and_has_twelve_layers():
    widths = (48, 32, 24, 20, 16, 12)
    head = UNetHead(192, 32, widths)
    assert head.widths == (*widths, *widths[::-1])
    inputs = [layer.in_features for layer in head.layers]
    assert inputs == [192, 48, 32, 24, 20, 16, 12, 28, 36, 44, 56, 80]
    film = head.film(torch.randn(5, 32))
    assert film.shape == (5, 2 * sum(head.widths))
    assert head(torch.randn(5, 192), torch.rand(5), film).shape == (5, 192)


@pytest.mark.parametrize("deviation", [1.0, 0.3])
def test_the_sampler_follows_a_known_velocity_field(deviation):
    """For Gaussian data the velocity is known, and one deviation of noise is one of data."""
    mean, sigma = 2.0, torch.tensor([deviation])

    def velocity(x, t):
        t = t[:, None]
        _, c_skip, _ = flow.balance(t, sigma)
        return c_skip * (x - (1 - t) * mean) - mean

    noise = torch.tensor([[-1.0], [0.0], [1.0]])
    wanted = mean + deviation * noise
    assert flow.euler(velocity, noise, 4)[1].item() == pytest.approx(mean, abs=1e-6)
    coarse, fine = (flow.euler(velocity, noise, n) for n in (4, 400))
    torch.testing.assert_close(fine, wanted, atol=0.02, rtol=0)
    assert (coarse - wanted).abs().max() < 0.5


def test_balanced_factors_leave_nothing_to_learn_where_data_do_not_vary():
    t = torch.tensor([[0.25], [0.5], [1.0]])
    c_in, c_skip, c_out = flow.balance(t, torch.tensor([1e-6]))
    assert c_out.max() < 1e-5
    torch.testing.assert_close(c_skip, 1 / t, atol=1e-4, rtol=1e-4)  # v = eps = x_t / t
    torch.testing.assert_close(c_in, 1 / t, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("deviation", [1.0, 0.2])
def test_balanced_factors_are_those_of_the_best_linear_guess(deviation):
    draws = torch.Generator().manual_seed(0)
    x, eps = (
        deviation * torch.randn(200_000, generator=draws),
        torch.randn(200_000, generator=draws),
    )
    for t in (0.1, 0.5, 0.9):
        c_in, c_skip, c_out = flow.balance(torch.tensor(t), torch.tensor(deviation))
        mixed, velocity = (1 - t) * x + t * eps, eps - x
        assert (c_in * mixed).std().item() == pytest.approx(1, abs=0.01)
        left = velocity - c_skip * mixed
        assert left.std().item() == pytest.approx(c_out.item(), rel=0.02)
        assert abs((left * mixed).mean().item()) < 0.01


def test_half_of_the_sequences_see_frames_as_in_driving():
    t = video_times(64, 8, 0.05, torch.Generator().manual_seed(0))
    assert (t[::2] <= 0.05).all()
    assert t[1::2].max() > 0.9


def test_an_untrained_model_plans_constant_velocity():
    model = WorldActionModel(tiny_config())
    plan = model.act(torch.randn(1, 32), torch.tensor([5.0]), torch.zeros((1, 1, 192)))
    assert plan.shape == (1, 1, 64, 3)
    torch.testing.assert_close(plan[0, 0, :, 0], 0.5 * torch.arange(1, 65))


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_the_autoencoder_has_the_declared_shapes_at_every_stride(stride):
    autoencoder = Autoencoder(3, stride)
    images = torch.randint(0, 255, (2, 128, 256, 3), dtype=torch.uint8)
    latents = autoencoder.encode(images)
    assert latents.shape == (2, *tiny_config(latent_channels=3, latent_stride=stride).latent_shape)
    assert autoencoder.decode(latents).shape == (2, 3, 128, 256)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"dim": 30}, "dim"), ({"layers": 0}, "layers"), ({"patch": 3}, "patch"),
     ({"latent_stride": 7}, "latent_stride"), ({"context_noise": 1.5}, "context_noise")],
)  # fmt: skip
def test_impossible_sizes_are_refused_by_name(change, word):
    with pytest.raises(ConfigError, match=word):
        tiny_config(**change)


def test_sizes_survive_as_plain_data_and_unknown_ones_are_named():
    config = tiny_config()
    assert WamConfig.from_dict(config.as_dict()) == config
    with pytest.raises(ConfigError, match="'depth' is unknown"):
        WamConfig.from_dict({**config.as_dict(), "depth": 3})

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from omniloop.policies.wam.attention import frame_mask, rotary, rotate  # noqa: E402
from omniloop.policies.wam.backbone import Cache  # noqa: E402
from omniloop.policies.wam.checkpoint import build  # noqa: E402
from tests.policies.wam.toy import tiny_config  # noqa: E402

FRAMES = 6


@pytest.fixture(scope="module")
def backbone():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        _, model = build(tiny_config())
        for weight in model.parameters():
            weight.data += 0.2 * torch.randn(weight.shape)
    return model.backbone.eval()


def sequence(backbone, batch=2, frames=FRAMES, seed=0):
    draws = torch.Generator().manual_seed(seed)
    config = backbone.config
    capture_s = torch.cumsum(0.1 + torch.rand((batch, frames), generator=draws), dim=1)
    return {
        "latents": torch.randn((batch, frames, *config.latent_shape), generator=draws),
        "t": torch.rand((batch, frames), generator=draws),
        "capture_s": capture_s,
        "history": torch.randn((batch, frames, config.dim), generator=draws),
        "decision_s": capture_s + 0.03,
    }


def changed(backbone, given, name, frame):
    """Largest change, per frame, of video and history outputs when an input of a frame moves."""
    with torch.no_grad():
        before = backbone(**given)
        other = {**given, name: given[name].clone()}
        draws = torch.Generator().manual_seed(frame)
        other[name][:, frame] += torch.randn(other[name][:, frame].shape, generator=draws)
        after = backbone(**other)
    return [
        (a - b).abs().flatten(2).amax(dim=2).amax(dim=0).numpy()
        for a, b in zip(before, after, strict=True)
    ]


@pytest.mark.parametrize("frame", range(FRAMES))
def test_video_never_sees_history_and_history_never_other_history(backbone, frame):
    video, history = changed(backbone, sequence(backbone), "history", frame)
    assert (video == 0).all()
    assert history[frame] > 1e-3
    assert (np.delete(history, frame) == 0).all()


@pytest.mark.parametrize("frame", range(FRAMES))
def test_nothing_looks_ahead_and_all_later_frames_of_the_window_look_back(backbone, frame):
    video, history = changed(backbone, sequence(backbone), "latents", frame)
    window = backbone.config.window
    for out in (video, history):
        assert (out[:frame] == 0).all()
        assert (out[frame : frame + window] > 1e-6).all()


def test_one_layer_reaches_back_to_the_window_and_to_the_first_frame_only():
    mask = frame_mask(frames=6, tokens=2, window=2)
    last_video, last_history = 5 * 3, 5 * 3 + 2
    frames_seen = {int(k) // 3 for k in mask[last_video].nonzero()}
    assert frames_seen == {0, 4, 5}
    assert mask[last_history].nonzero().flatten().tolist() == [0, 1, 12, 13, 15, 16, 17]
    assert mask[:, 2::3].sum() == 6  # each history token is seen by itself alone


def test_frames_streamed_one_by_one_give_what_the_whole_sequence_gives(backbone):
    given = sequence(backbone, batch=3, frames=9)
    with torch.no_grad():
        _, whole = backbone(**given)
        cache, streamed = Cache.empty(backbone.config, 3), []
        shape = cache.kept.shape
        for k in range(9):
            h, cache = backbone.step(cache, **{name: v[:, k] for name, v in given.items()})
            assert cache.kept.shape == shape
            streamed.append(h)
    torch.testing.assert_close(torch.stack(streamed, dim=1), whole, atol=2e-5, rtol=1e-4)


def test_rows_of_a_cache_may_be_at_different_frames(backbone):
    given = sequence(backbone, batch=2, frames=5)
    rows = [{name: v[k : k + 1] for name, v in given.items()} for k in range(2)]
    with torch.no_grad():
        caches = []
        for row, count in zip(rows, (4, 1), strict=True):
            cache = Cache.empty(backbone.config, 1)
            for k in range(count):
                _, cache = backbone.step(cache, **{name: v[:, k] for name, v in row.items()})
            caches.append(cache)
        nth = [{n: v[:, k] for n, v in row.items()} for row, k in zip(rows, (4, 1), strict=True)]
        alone = [backbone.step(c, **x)[0] for c, x in zip(caches, nth, strict=True)]
        both = {n: torch.cat([x[n] for x in nth]) for n in nth[0]}
        together, _ = backbone.step(Cache.stack(caches), **both)
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-5, rtol=1e-4)


def test_a_step_leaves_the_cache_that_it_was_given_as_it_is(backbone):
    given = sequence(backbone, batch=1, frames=2)
    with torch.no_grad():
        first, second = ({n: v[:, k] for n, v in given.items()} for k in range(2))
        _, cache = backbone.step(Cache.empty(backbone.config, 1), **first)
        held = cache.kept.clone()
        once, _ = backbone.step(cache, **second)
        again, _ = backbone.step(cache, **second)
    assert torch.equal(cache.kept, held)
    assert torch.equal(once, again)


def test_rotary_attention_depends_on_time_differences_only():
    draws = torch.Generator().manual_seed(0)
    q, k = torch.randn((2, 1, 1, 5, 32), generator=draws)
    times = torch.tensor([[0.0, 0.2, 0.4, 0.65, 3.0]])
    scores = [
        rotate(q, rotary(times + shift, 32)) @ rotate(k, rotary(times + shift, 32)).mT
        for shift in (0.0, 7.3)
    ]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores[0], q @ k.mT, atol=1e-2)


def test_the_second_camera_and_its_absence_are_told_apart(backbone):
    given = sequence(backbone, batch=2, frames=3)
    draws = torch.Generator().manual_seed(1)
    tele = torch.randint(0, 255, (2, 3, 128, 256, 3), dtype=torch.uint8, generator=draws)
    with torch.no_grad():
        without = backbone(**given)[1]
        hidden = backbone(**given, tele=tele, has_tele=torch.zeros((2, 3), dtype=torch.bool))[1]
        shown = backbone(**given, tele=tele, has_tele=torch.ones((2, 3), dtype=torch.bool))[1]
    assert torch.equal(without, hidden)
    assert (shown - hidden).abs().amin(dim=-1).numpy().shape == (2, 3)
    assert (shown - hidden).abs().amax() > 1e-3

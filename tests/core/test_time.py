from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniloop.core.errors import ConfigError
from omniloop.core.time import frame_interval_us, seconds_to_us, us_to_seconds


@given(st.integers(0, 10**10))
def test_whole_microseconds_survive_the_way_through_seconds(time_us):
    assert seconds_to_us(us_to_seconds(time_us)) == time_us


def test_seconds_round_to_the_nearest_microsecond_and_to_even_on_a_tie():
    assert seconds_to_us(1.7) == 1_700_000
    assert seconds_to_us(2.033313) == 2_033_313
    assert seconds_to_us(0.1 + 0.2) == 300_000
    assert seconds_to_us(2**-7 / 15625) == 0  # half a microsecond, exactly
    assert seconds_to_us(-0.25) == -250_000
    assert isinstance(seconds_to_us(1.0), int)


@pytest.mark.parametrize(
    ("fps", "interval"), [(30, 33_333), (10, 100_000), (24, 41_666), (1, 10**6), (1000, 1000)]
)
def test_frame_intervals_are_cut_off_as_the_video_model_does(fps, interval):
    assert frame_interval_us(fps) == interval


@pytest.mark.parametrize("fps", [0, -30, 1001])
def test_impossible_frame_rates_are_refused(fps):
    with pytest.raises(ConfigError, match=f"fps is {fps}") as caught:
        frame_interval_us(fps)
    assert "between 1 and 1000" in caught.value.remedy

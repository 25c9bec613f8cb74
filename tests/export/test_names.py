from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from omniloop.export.names import safe_name, sample_key


@given(st.text(min_size=1, max_size=300))
def test_any_id_becomes_a_name_that_paths_and_tars_take(name):
    assert re.fullmatch(r"[A-Za-z0-9_~%-]{1,120}", safe_name(name))


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_different_ids_have_different_names(a, b):
    assert (safe_name(a) == safe_name(b)) == (a == b)


def test_dots_slashes_and_what_is_no_letter_are_encoded():
    assert safe_name("../x") == "%2E%2E%2Fx"
    assert safe_name("b.c") == "b%2Ec"
    assert safe_name("straße 1") == "stra%C3%9Fe%201"
    assert sample_key("a.b", 3, 12) == "a%2Eb-3-000012"

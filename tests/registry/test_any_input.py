"""Any value that is accepted is read back as it was given, and its hash stays right.

Not in test_input.py, so that `make check` need not import hypothesis.
"""

import itertools
from dataclasses import replace

import numpy as np
from amounts import usual
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_helpers import LINEAGE, make_candidate

from registry.integrity import verify

TEXTS = st.one_of(
    st.sampled_from(
        ["é", "e\u0301", "ﬁ", "\U0001f600", "\uffff", "\ue000", "a.b", "", "\x7f\x1b\u202e"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
FLOATS = st.one_of(
    st.sampled_from([1e308, -0.0, 5e-324, 2.0**53, 3.0, 1e21, 1e-7, 0.1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), FLOATS, TEXTS, st.integers(1 - 2**53, 2**53 - 1)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
COUNT = itertools.count()  # chance is in the hands of hypothesis
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=4)
KEYS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cf"]), min_size=1, max_size=8
).filter(str.strip)


# Each example registers and verifies: 11 CPU seconds for 25 in SQLite.
@settings(
    max_examples=usual(10, 100),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    params=DOCUMENTS,
    document=DOCUMENTS,
    metrics=st.dictionaries(KEYS, FLOATS, max_size=3),
    tags=st.dictionaries(KEYS, KEYS, max_size=3),
)
def test_accepted_values_are_read_back_as_they_were_hashed(place, params, document, metrics, tags):
    with place.open() as r:
        candidate = make_candidate(
            place.folder / "b",
            f"model {next(COUNT)}",
            params=params,
            signature=document,
            evaluation={"passed": True, "more": document},
            metrics=metrics,
            tags=tags,
            lineage=replace(LINEAGE, libraries=tags),
        )
        made = r.register("odd", candidate, actor="ada")
        ref = made.version.ref
        assert made.created
        assert r.resolve(ref).version == made.version
        r.evaluate("odd", made.version.version, {"passed": False, "more": document}, actor="ada")
        problems = [(p.ref, p.what) for p in verify(r).problems]
        assert [p for p in problems if p[0] == ref or p[0].startswith("event")] == []

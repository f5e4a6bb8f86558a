"""The mapping between attributes and texts, without a store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dirigible_session.backends import mapping
from dirigible_session.backends.mapping import Delta
from dirigible_session.lifecycle import Times
from dirigible_session.stored import from_document

names = st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(names, values, max_size=6)
texts = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["1", "2"]), max_size=6)


@given(attributes)
def test_a_document_holds_the_attributes_in_their_order(data):
    document = mapping.to_document(mapping.to_texts(data))
    assert document.isascii()
    assert list(from_document(document).items()) == list(data.items())


@given(texts, st.permutations("abcdef"), texts)
def test_a_delta_laid_over_what_it_was_told_from_gives_what_is_wanted(before, order, changes):
    # What a request can do: remove some, set some again, add some.
    after = dict(before)
    for name in order:
        if name in changes:
            if changes[name] == "2":
                after.pop(name, None)
            after[name] = changes[name]
    delta = mapping.delta(before, after)
    assert list(delta.laid_over(before).items()) == list(after.items())


@given(texts, texts, texts)
def test_a_delta_leaves_alone_what_it_did_not_change(before, after, rival):
    delta = mapping.delta(before, after)
    stored = delta.laid_over(rival)
    for name in rival.keys() - delta.changed.keys() - delta.removed:
        assert stored[name] == rival[name]
    for name, text in delta.changed.items():
        assert stored[name] == text
    assert not stored.keys() & (delta.removed - delta.changed.keys())


@given(texts)
def test_what_is_the_same_is_no_change(same):
    assert mapping.delta(same, dict(same)) == Delta(changed={})


def test_clearing_leaves_only_what_was_set_after_it():
    assert Delta(changed={"a": "1"}, clears=True).laid_over({"a": "2", "b": "3"}) == {"a": "1"}


def test_the_interval_is_this_requests_if_it_set_one():
    before, theirs = Times(1.0, 2.0), Times(1.0, 3.0, -5)
    assert mapping.merged_times(before, Times(1.0, 4.0), theirs) == Times(1.0, 4.0, -5)
    assert mapping.merged_times(before, Times(1.0, 2.5, 0), theirs) == Times(1.0, 3.0, 0)

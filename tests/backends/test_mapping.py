"""The mapping between attributes and texts, without a store."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize(
    ("ours", "theirs", "login"),
    [(5.0, None, 5.0), (5.0, 6.0, 6.0), (6.0, 5.0, 6.0), (None, 5.0, 5.0), (0.0, 0.0, 0.0)],
)
def test_of_two_logins_the_later_counts(ours, theirs, login):
    before = Times(1.0, 2.0)
    merged = mapping.merged_times(
        before, Times(1.0, 2.0, None, ours), Times(1.0, 2.0, None, theirs)
    )
    assert merged.authenticated == login


# Merging.

keys = st.sampled_from("abcd")
leaves = st.integers(0, 2) | st.booleans() | st.lists(st.integers(0, 1), max_size=2)
trees = st.recursive(
    st.dictionaries(keys, leaves, max_size=3),
    lambda inner: st.dictionaries(keys, leaves | inner, max_size=3),
    max_leaves=8,
)


def changed(tree, path, value):
    """Return a copy in which one value is set, or removed (None), deep inside."""
    copy = dict(tree)
    first, *rest = path
    if not rest:
        copy.pop(first, None)
        if value is not None:
            copy[first] = value
    else:
        inner = copy.get(first)
        copy[first] = changed(inner if isinstance(inner, dict) else {}, rest, value)
    return copy


@given(trees, trees)
def test_what_only_one_changed_is_as_it_wants_it(before, after):
    assert mapping.merged(before, after, before) == after
    assert mapping.merged(before, before, after) == after


@given(trees, trees)
def test_two_equal_changes_are_one(before, after):
    assert mapping.merged(before, after, after) == after


@given(st.dictionaries(keys, st.fixed_dictionaries({"x": leaves, "y": leaves})), st.data())
def test_disjoint_changes_merge_to_the_same_in_any_order(before, data):
    paths = [("a",), ("b", "x"), ("b", "y"), ("c", "x"), ("d", "deep", "z"), ("e",)]
    before = {**before, "d": {"deep": {"z": 1, "w": 2}}, "b": {"x": 1, "y": 2}, "c": {"x": 3}}
    values = [data.draw(leaves | st.none()) for _ in paths]
    changes = [changed(before, path, value) for path, value in zip(paths, values, strict=True)]
    expected = before
    for path, value in zip(paths, values, strict=True):
        expected = changed(expected, path, value)
    for order in (changes, data.draw(st.permutations(changes))):
        stored = before
        for ours in order:
            stored = mapping.merged(before, ours, stored)
        assert stored == expected


@given(trees, trees, trees)
def test_of_one_key_the_last_wins_and_every_value_is_somebodys(before, ours, theirs):
    result = mapping.merged(before, ours, theirs)
    for key, value in result.items():
        if not all(isinstance(tree.get(key), dict) for tree in (before, ours, theirs)):
            assert value in (ours.get(key), theirs.get(key))
    for key in ours.keys() - before.keys():
        assert result[key] == ours[key]
    for key in before.keys() - ours.keys():
        assert key not in result


@pytest.mark.parametrize(("value", "other"), [(1, True), (1, 1.0), (0, False)])
def test_a_change_of_the_type_alone_is_a_change(value, other):
    assert mapping.merged({"a": value}, {"a": other}, {"a": value, "b": 1})["a"] is other


def test_what_is_nested_too_deep_to_be_merged_is_this_requests():
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    assert mapping.merged_text("{}", deep, '{"b":1}') == deep


@pytest.mark.parametrize("document", ['{"a":1.50,"b":"\\u0041","c":[ ]}', '{"a": 1.5, "b": "A"}'])
def test_text_in_another_form_is_no_change(document):
    before = mapping.texts_in(document)
    after = mapping.to_texts(from_document(document))
    assert mapping.delta(before, after) == Delta()


@pytest.mark.parametrize(
    "document", ["{}", '{"a":1}', '{"a":1,"b":{"c":[]}}', '{"ä":1}', '{ "a":1}', '{"a":1 }']
)
def test_the_texts_in_a_document_are_those_of_its_attributes(document):
    assert mapping.texts_in(document) == mapping.to_texts(from_document(document))


@pytest.mark.parametrize(
    "document", ["", "{", "[1]", '{"a"}', '{"a":1', '{"a":1}x', "{1:1}", '{"a" 1}']
)
def test_a_damaged_document_has_no_texts(document):
    with pytest.raises(ValueError, match=r".*"):
        mapping.texts_in(document)


@given(attributes, attributes)
def test_texts_are_the_same_with_and_without_the_ones_before(before, data):
    assert mapping.texts_since(mapping.to_texts(before), data) == mapping.to_texts(data)
    assert mapping.texts_since(mapping.to_texts(data), data) == mapping.to_texts(data)

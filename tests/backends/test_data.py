"""Data of which single attributes are read behaves as a dict does, and tells what was changed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dirigible_session.backends import mapping
from dirigible_session.backends.data import SessionData
from dirigible_session.backends.mapping import Delta
from dirigible_session.backends.redis.record import NOTHING, StoredHash
from dirigible_session.lifecycle import Times

names = st.sampled_from("abcde")
values = st.none() | st.integers(0, 2) | st.text(max_size=2) | st.lists(st.integers(), max_size=2)
steps = st.one_of(
    st.tuples(st.sampled_from(["get", "has", "item", "pop", "del", "grow"]), names),
    st.tuples(st.sampled_from(["set", "setdefault", "update"]), names, values),
    st.tuples(st.sampled_from(["all", "len", "clear"])),
)


def stored(data: dict[str, Any]) -> StoredHash:
    return NOTHING.after(Delta(mapping.to_texts(data)), Times(1.0, 1.0), None, (0.0, None))


def do(data: Any, step: tuple[Any, ...]) -> Any:
    match step:
        case ("get", name):
            return data.get(name, "default")
        case ("has", name):
            return name in data
        case ("item", name):
            try:
                return data[name]
            except KeyError:
                return "no such name"
        case ("pop", name):
            return data.pop(name, "default")
        case ("del", name):
            if name in data:
                del data[name]
        case ("grow", name):
            if isinstance(data.get(name), list):
                data[name].append(7)
        case ("set", name, value):
            data[name] = copy.deepcopy(value)
        case ("setdefault", name, value):
            return data.setdefault(name, copy.deepcopy(value))
        case ("update", name, value):
            data.update({name: copy.deepcopy(value)}, f=1)
        case ("ior", name, value):
            data |= {name: copy.deepcopy(value)}
        case ("all",):
            return list(data.items()), list(data), list(data.values()), list(data.keys())
        case ("len",):
            return len(data), bool(data)
        case ("clear",):
            data.clear()
        case ("popitem",):
            return data.popitem() if data else None
    return None


@given(st.dictionaries(names, values), st.lists(steps, max_size=8))
def test_it_does_what_a_dict_does_and_its_changes_make_the_same_of_what_is_stored(before, steps):
    unread, read, model = SessionData(stored(before)), None, copy.deepcopy(before)
    read = SessionData(stored(before))
    read.read()
    for step in steps:
        expected = do(model, step)
        for data in (unread, read):
            assert do(data, step) == expected
    expected = mapping.to_texts(model)
    for data in (unread, read):
        after = data.delta().laid_over(data.stored.texts)
        assert list(after.items()) == list(expected.items())
    assert list(unread.items()) == list(model.items())


@example({"c": None}, [("clear",)], [("set", "c", None)])
@given(st.dictionaries(names, values), st.lists(steps, max_size=4), st.lists(steps, max_size=4))
def test_a_second_save_tells_what_was_changed_since_the_first(before, first, second):
    unread = SessionData(stored(before))
    for step in first:
        do(unread, step)
    delta = unread.delta()
    kept = delta.laid_over(unread.stored.texts)
    unread.saved(delta, unread.stored.after(delta, Times(1.0, 2.0), None, (0.0, None)))
    assert list(unread.stored.texts.items()) == list(kept.items())
    for step in second:
        do(unread, step)
    expected = mapping.to_texts(unread)
    assert list(unread.delta().laid_over(kept).items()) == list(expected.items())


@pytest.mark.parametrize("whole", [dict, copy.copy, copy.deepcopy, lambda data: {**data}])
def test_all_of_it_is_had_as_of_a_dict(whole):
    data = SessionData(stored({"b": [1], "a": 2}))
    assert whole(data) == {"b": [1], "a": 2}
    assert list(whole(data)) == ["b", "a"]


def test_json_sees_all_of_it_and_repr_no_value():
    assert json.dumps(dict(SessionData(stored({"b": [1], "a": 2})))) == '{"b": [1], "a": 2}'
    assert repr(SessionData(stored({"b": [1]}))) == "<session data: 'b'>"
    assert SessionData(stored({"b": [1]})) == {"b": [1]}
    assert SessionData(stored({"b": [1]})) != {"b": [2]}


def test_looking_one_up_reads_no_other(monkeypatch):
    data = SessionData(stored({"a": 1, "b": [2]}))

    def fail(self):
        raise AssertionError

    monkeypatch.setattr(StoredHash, "parsed", fail)
    assert data["a"] == 1
    assert data["b"] is data.get("b")
    assert "c" not in data
    data["c"] = 3
    assert data.delta() == Delta({"c": "3"})
    data["b"].append(4)
    assert data.delta() == Delta({"b": "[2,4]", "c": "3"})


def test_what_was_given_out_is_the_same_object_when_all_is_read():
    data = SessionData(stored({"a": [1], "b": 1}))
    given_out = data["a"]
    assert dict(data.items())["a"] is given_out


def test_a_name_that_is_no_text_is_a_name_as_well():
    data = SessionData(stored({"a": 1}))
    data[1] = 2
    assert data[1] == 2
    assert 1 in data
    assert data.delta() == Delta({"1": "2"})


def test_what_json_cannot_hold_is_an_error_and_not_taken_for_damage():
    endless: list[Any] = []
    endless.append(endless)
    for value, error in ((object(), TypeError), (endless, ValueError)):
        data = SessionData(stored({"a": 1}))
        data["a"] = value
        with pytest.raises(error):
            data.delta()


def overtaken(monkeypatch: pytest.MonkeyPatch, method: str) -> SessionData:
    """Give data that another thread reads, and changes, at the first step of a method."""
    data = SessionData(stored({"a": [1], "b": 1}))
    first_step = getattr(StoredHash, method)

    def read_meanwhile(self, *args):
        found = first_step(self, *args)
        monkeypatch.undo()
        data.read()
        data["a"] = "another thread's"
        return found

    monkeypatch.setattr(StoredHash, method, read_meanwhile)
    return data


def test_a_look_up_that_another_thread_overtakes_takes_nothing_back(monkeypatch):
    data = overtaken(monkeypatch, "text_of")
    assert data.get("a") == "another thread's"
    assert dict(data) == {"a": "another thread's", "b": 1}


@pytest.mark.parametrize(
    ("name", "arguments", "found"),
    [
        ("get", ("a",), [1]),
        ("get", ("c", "none"), "none"),
        ("__getitem__", ("a",), [1]),
        ("__contains__", ("c",), False),
        ("__setitem__", ("a", 2), None),
        ("setdefault", ("b", 2), 1),
        ("pop", ("a",), [1]),
        ("__len__", (), 2),
        ("delta", (), Delta()),
        ("read", (), None),
    ],
)
def test_a_method_that_was_found_before_another_thread_read_all_works_on(name, arguments, found):
    method = getattr(SessionData, name)
    data = SessionData(stored({"a": [1], "b": 1}))
    data.read()
    assert method(data, *arguments) == found
    assert data.get("a") == {"__setitem__": 2, "pop": None}.get(name, [1])

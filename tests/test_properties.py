"""Whatever is done to attributes in whatever requests, the facade does what a dict does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .visiting import Visitor

# Any str but the reserved ones, lone surrogates and control characters included.
names = st.text(st.characters(), max_size=8).filter(lambda name: not name.startswith("_"))
scalars = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner | st.none(), max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(names | st.integers() | st.booleans(), inner | st.none(), max_size=3)
    ),
    max_leaves=8,
)
steps = st.one_of(
    st.tuples(st.just("set"), names, values),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("get"), names),
    st.tuples(st.just("grow"), names, scalars),
)


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _do_to_dict(model: dict[str, Any], step: tuple[Any, ...]) -> Any:
    match step:
        case ("set", name, value):
            model[name] = _as_stored(value)
            return model[name]
        case ("remove", name):
            return model.pop(name, None)
        case ("grow", name, value):
            grown = model.get(name)
            if isinstance(grown, list):
                grown.append(value)
            elif isinstance(grown, dict):
                grown["grown"] = value
            return grown
        case (_, name):
            return model.get(name)


async def _do_to_session(session: Any, step: tuple[Any, ...]) -> Any:
    match step:
        case ("set", name, value):
            return await session.set_attribute(name, value)
        case ("remove", name):
            return await session.remove_attribute(name)
        case ("grow", name, value):
            grown = await session.get_attribute(name)
            if isinstance(grown, list):
                grown.append(value)
            elif isinstance(grown, dict):
                grown["grown"] = value
            return grown
        case (_, name):
            return await session.get_attribute(name)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requests=st.lists(st.lists(steps, max_size=4), max_size=4))
def test_the_facade_does_what_a_dict_does_across_requests(engine, is_async, requests):
    visitor = Visitor(is_async=is_async)
    model: dict[str, Any] = {}
    for request in requests:

        async def visit(session, request=request):
            for step in request:
                expected = _do_to_dict(model, step)
                assert repr(await _do_to_session(session, step)) == repr(expected)
            names = await session.get_attribute_names()
            assert names == list(model)

        visitor.visit(visit)
        # A value that was changed in place is what the next request reads.
        for name in model:
            model[name] = _as_stored(model[name])

    async def read(session):
        return {
            name: await session.get_attribute(name) for name in await session.get_attribute_names()
        }

    assert repr(visitor.visit(read)) == repr(model)

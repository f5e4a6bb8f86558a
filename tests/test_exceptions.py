"""What can go wrong: an error arrives elsewhere as it was raised here."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from dirigible_session import exceptions

ERRORS = [
    exceptions.NoCurrentRequest("get_id"),
    exceptions.MiddlewareMissing("get_id"),
    exceptions.AttributeNotSerializable("cart", lambda: 1, TypeError("no function")),
    exceptions.ReservedAttributeName("_cart"),
    exceptions.SessionNotFound("this id names no live session"),
    exceptions.SessionConflict(5),
    exceptions.StoreUnavailable("refused"),
]


def test_each_error_is_among_those_tried_here():
    public = {
        value
        for name, value in vars(exceptions).items()
        if inspect.isclass(value)
        and value.__module__ == exceptions.__name__
        and not name.startswith("_")
    }
    assert public == {type(error) for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "carry",
    [
        copy.copy,
        copy.deepcopy,
        *(
            lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_an_error_comes_through_pickle_and_copy_as_it_is(error, carry):
    error.from_the_caller = ["note"]
    again = carry(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)

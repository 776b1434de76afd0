"""Makes rows of product_matching that are hard to tell apart.

In most rows with the answer "no", both records state a fact, such as the model number, the capacity, the pack size or
the colour, but with different values. In the other rows with "no", one record describes an accessory for the product.

In a row with the answer "yes", the two records state the same facts in another order and with other spaces. One of them
may leave out a fact.
"""

from __future__ import annotations

from random import Random

from ecellm_lite.training.hard_cases.goods import Good, draw_good, with_other_spaces
from ecellm_lite.training.hard_cases.leftovers import with_leftovers
from ecellm_lite.training.rows import Row

_TELLING = ("model", "model", "capacity", "pack", "color", "screen", "volume", "fill", "size", "strength", "count")
_FILLERS = (
    "Order today.",
    "Brand new in the original box.",
    "Official warranty.",
    "In stock.",
    "A bestseller of our shop.",
    "Returns within 30 days.",
)
_ENDS = ("", "", "", " NEW", " - Free Shipping", " | Online Shop", " (Retail)")


def matching_rows(count: int, random: Random) -> list[Row]:
    """Return `count` made-up rows of product_matching. Half of them have the answer "no"."""
    return [_row(random, matches=number % 2 == 0) for number in range(count)]


def _row(random: Random, *, matches: bool) -> Row:
    telling = random.choice(_TELLING)
    good = draw_good(random, having=telling)
    price = random.uniform(4, 400)
    if matches:
        others = [key for key in good.facts if key != telling]
        dropped = [random.choice(others)] if others and random.random() < 0.4 else []
        first, second = _record(good, price, random), _record(good, price, random, without=dropped)
    elif random.random() < 0.2:
        first, second = _record(good, price, random), _accessory_record(good, price / 10, random)
    else:
        first, second = _record(good, price, random), _record(good.changed(telling, random), price, random)
    products = random.sample([first, second], 2)
    return {
        "id": None,
        "task": "product_matching",
        "input": {"product_1": products[0], "product_2": products[1]},
        "output": "yes" if matches else "no",
    }


def _record(good: Good, price: float, random: Random, *, without: list[str] | None = None) -> dict[str, str]:
    """Return a shop's record of a product: a title, and at random a description, a manufacturer and a price.

    `price`: the product's usual price. The price in the record differs from it by at most 10%.
    `without`: the facts to leave out, such as `color`.
    """
    hidden = list(without or [])
    record = {"title": ""}
    if random.random() < 0.3:
        texts = random.sample(_FILLERS, random.randint(1, 2))
        facts = ", ".join(value for key, value in good.facts.items() if key not in hidden)
        texts.insert(0, f"{good.noun} by {good.brand}. {facts}.")
        record["description"] = " ".join(texts)
    if random.random() < 0.4:
        record["manufacturer"] = good.brand
        if random.random() < 0.4:
            hidden.append("brand")
    record["title"] = with_other_spaces(good.title(random, without=hidden), random) + random.choice(_ENDS)
    if random.random() < 0.5:
        record["price"] = f"{price * random.uniform(0.9, 1.1):.2f}{random.choice(('', '', ' USD', ' EUR'))}"
    if random.random() < 0.3:
        record = {name: with_leftovers(text, random) for name, text in record.items()}
    if random.random() < 0.3:
        record["title"] = record["title"].lower()
    return record


def _accessory_record(good: Good, price: float, random: Random) -> dict[str, str]:
    """Return the record of an accessory. Its title names the product, such as "Case for Sony WH-1000"."""
    name = f"{good.brand} {good.title(random, without=['brand'])}"
    accessory = good.accessory
    title = random.choice((f"{accessory} for {name}", f"{name} {accessory}", f"{accessory}, fits {name}"))
    return {"title": title, "price": f"{price:.2f}"} if random.random() < 0.5 else {"title": title}

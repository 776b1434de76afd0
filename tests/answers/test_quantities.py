"""Checks that quantities, numbers and dates are read in the forms that product texts use."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecellm_lite.answers.dates import DateReader
from ecellm_lite.answers.numbers import UnreadableError
from ecellm_lite.answers.quantities import QuantityReader
from ecellm_lite.answers.typed_values import NumberReader, Reader
from ecellm_lite.answers.units import _IMPERIAL, _UNITS, Unit, converted

pytest.importorskip("pint")
pytest.importorskip("dateutil")

# Written by hand: the text, the unit to convert to, and the value in that unit (a range, or a pack with its count).
QUANTITIES: list[tuple[str, str, object]] = [
    ("20-lb.", "kg", 9.0718474),
    ("20-lb", "lb", 20),
    ("20 lbs", "kg", 9.0718474),
    ("1.5 kg", "g", 1500),
    ("500g", "kg", 0.5),
    ("500 Gramme", "g", 500),
    ("250 mg", "g", 0.25),
    ("100 mcg", "mg", 0.1),
    ("12 oz", "g", 340.19427750),
    ("6 lb 4 oz", "lb", 6.25),
    ("1 kg 500 g", "kg", 1.5),
    ("2 tons", "kg", 1814.36948),
    ("2 t", "kg", 2000),
    ("12 fl oz", "ml", 354.88235475),
    ("12 FL. OZ.", "ml", 354.88235475),
    ("12 fluid ounces", "fl oz", 12),
    ("1 ½ cups", "ml", 354.88235475),
    ("1½ cups", "cups", 1.5),
    ("2 tbsp", "tsp", 6),
    ("0,5 l", "ml", 500),
    ("75cl", "l", 0.75),
    ("1 gal", "qt", 4),
    ("6 x 330 ml", "ml", (1980, 6)),
    ("6x330ml", "l", (1.98, 6)),
    ("24 × 12 fl oz", "fl oz", (288, 24)),
    ("330 ml x 6", "ml", (1980, 6)),
    ("2 x 8GB", "GB", (16, 2)),
    ("64GB", "GB", 64),
    ("64 gb", "MB", 64_000),
    ("1TB", "GB", 1000),
    ("1 GiB", "MiB", 1024),
    ("5'10\"", "cm", 177.8),
    ("5′10″", "cm", 177.8),
    ("5 ft. 10 1/2 in.", "in", 70.5),
    ("6’", "ft", 6),
    ("27''", "in", 27),
    ("27”", "cm", 68.58),
    ("27-inch", "in", 27),
    ("1/2 in", "mm", 12.7),
    ("1-1/2 in.", "in", 1.5),
    ('3⁄4"', "in", 0.75),
    (".5 in", "mm", 12.7),
    ("10–12 in", "in", (10, 12, 1)),
    ("10-12 in", "cm", (25.4, 30.48, 1)),
    ("5kg to 8kg", "kg", (5, 8, 1)),
    ("-20 to 60 °C", "°C", (-20, 60, 1)),
    ("-4°F", "°C", -20),
    ("25ºC", "°F", 77),
    ("3000K", "K", 3000),
    ("100 ㎖", "ml", 100),
    ("12 m²", "m2", 12),
    ("200 sq. ft.", "m2", 18.580608),
    ("2 cu ft", "l", 56.633693184),
    ("1 h 30 min", "min", 90),
    ("36 months", "years", 3),
    ("5000mAh", "Ah", 5),
    ("60 watts", "W", 60),
    ("2.4GHz", "MHz", 2400),
    ("100%", "%", 100),
    ("1,234.5 g", "g", 1234.5),
    ("1.234,5 g", "g", 1234.5),
    ("1\u202f500 g", "g", 1500),
    ("1,000,000 mm", "m", 1000),
    ("１２ ｃｍ", "mm", 120),
    ("15/16 in", "in", 0.9375),
    ("⅖ cup", "cup", 0.4),
    ("1/10 oz", "oz", 0.1),
    ("123456789012345 g", "g", 123456789012345),
]


def flat(quantity: dict[str, object]) -> object:
    if quantity["value"] is None:
        return quantity["least"], quantity["most"], quantity["count"]
    assert quantity["value"] == quantity["least"] == quantity["most"]
    return quantity["value"] if quantity["count"] == 1 else (quantity["value"], quantity["count"])


@pytest.mark.parametrize(("text", "unit", "value"), QUANTITIES)
def test_quantities_that_are_read(text: str, unit: str, value: object) -> None:
    quantity = QuantityReader(unit).read(text)
    assert quantity["unit"] == unit
    assert flat(quantity) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("20", "kg"),
        ("kg", "kg"),
        ("", "kg"),
        ("about 5 kg", "kg"),
        ("5 kg or 6 kg", "kg"),
        ("up to 20 kg", "kg"),
        ("-5 kg", "kg"),
        ("12 oz", "ml"),
        ("12 fl oz", "g"),
        ("10 x 20 cm", "cm"),
        ("2 x 4 in", "in"),
        ("0 x 5 kg", "kg"),
        ("10 cm x 20 cm", "cm"),
        ("12-10 in", "in"),
        ("10 in - 12 cm", "cm"),
        ("5 ft 14 in", "in"),
        ("12 oz 340 g", "g"),
        ("1 kg 2.2 lb", "kg"),
        ("1.5 ft 2 in", "in"),
        ("5 ft 10", "in"),
        ("1,500 g", "g"),
        ("1.500 kg", "kg"),
        ("1,00,000 g", "g"),
        ("1/0 in", "in"),
        ("1 3/2 in", "in"),
        ("110/220V", "V"),
        ("100/240 V", "V"),
        ("50/60Hz", "Hz"),
        ("24/36 in", "in"),
        ("12/16 oz", "oz"),
        ("220/110 V", "V"),
        ("4/4 cup", "cup"),
        ("10² cm", "cm"),
        ("5 M", "m"),
        ("16Gb", "GB"),
        ("3 pins", "cm"),
        ("2 meter**9999", "m"),
        ("1e5 kg", "kg"),
        ("٣ kg", "kg"),
        ("nan kg", "kg"),
        ("inf kg", "kg"),
        ("20\x00kg", "kg"),
        ("9" * 16 + " kg", "kg"),
        ("9" * 10_000 + " kg", "kg"),
        ("kg" * 5000, "kg"),
        ("5'" * 32, "in"),
        ("\ufdfa" * 64, "kg"),
    ],
)
def test_quantities_that_are_refused(text: str, unit: str) -> None:
    with pytest.raises(UnreadableError):
        QuantityReader(unit).read(text)


def test_a_setting_decides_what_two_could_read_differently() -> None:
    assert QuantityReader("kg", decimal=",").read("1.500 g")["value"] == 1.5
    assert QuantityReader("g", decimal=".").read("1,500 g")["value"] == 1500
    assert QuantityReader("kg", decimal=".").read("1.500 kg")["value"] == 1.5
    assert QuantityReader("ml", "imperial").read("1 pint")["value"] == pytest.approx(568.26125)
    assert QuantityReader("kg", "imperial").read("1 ton")["value"] == pytest.approx(1016.0469088)
    for decimal, text in ((".", "0,5 l"), (",", "0.5 l")):
        with pytest.raises(UnreadableError):
            QuantityReader("l", decimal=decimal).read(text)  # type: ignore[arg-type]
    with pytest.raises(UnreadableError):
        QuantityReader("ml", "imperial").read("1 cup")


def test_units_of_a_kind_can_be_converted() -> None:
    british = [Unit(name, _UNITS["l"].kind) for name in _IMPERIAL.values() if name and name != "long_ton"]
    units = {*_UNITS.values(), *british, Unit("long_ton", "mass")}
    for one, other in product(units, units):
        if one.kind == other.kind:
            assert converted(converted(3.0, one, other), other, one) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("12.50", 12.5),
        ("-3", -3),
        ("+3", 3),
        ("−3", -3),
        ("1/2", 0.5),
        ("1 ½", 1.5),
        ("1,5", 1.5),
        ("1,234,567", 1234567),
        ("0.125", 0.125),
        ("4006381333931", 4006381333931),
        ("123456789012345", 123456789012345),
        ("12345678.9012345", 12345678.9012345),
    ],
)
def test_numbers_that_are_read(text: str, value: float) -> None:
    number = NumberReader().read(text)
    assert number == value
    assert isinstance(number, int) == (value == int(value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "twelve",
        "10-12",
        "24/7",
        "16/9",
        "12/16",
        "1,500",
        "5 kg",
        "1e5",
        "NaN",
        "inf",
        "--3",
        "3-",
        "9" * 10_000,
        "1_000",
        "0x10",
    ],
)
def test_numbers_that_are_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        NumberReader().read(text)


@pytest.mark.parametrize(
    ("text", "day_first", "day"),
    [
        ("2025-04-03", None, "2025-04-03"),
        ("2025-04-03", True, "2025-04-03"),
        ("2025/4/3", None, "2025-04-03"),
        ("2025-04-03T10:00:00Z", None, "2025-04-03"),
        ("20250403", None, "2025-04-03"),
        ("3 April 2025", None, "2025-04-03"),
        ("3. april 2025", None, "2025-04-03"),
        ("April 3rd, 2025", None, "2025-04-03"),
        ("Thu, 3 Apr 2025", None, "2025-04-03"),
        ("25/04/2025", None, "2025-04-25"),
        ("04/25/2025", None, "2025-04-25"),
        ("04/04/2025", None, "2025-04-04"),
        ("03/04/2025", True, "2025-04-03"),
        ("03/04/2025", False, "2025-03-04"),
        ("03.04.2025", True, "2025-04-03"),
        ("2025 04 03", True, "2025-04-03"),
        ("2025-04-03 10:00", None, "2025-04-03"),
        ("2025-04-03 10:00:00.5 UTC", None, "2025-04-03"),
        ("2025-04-03T10:00:00+02:00", None, "2025-04-03"),
        ("3 April 2025 5pm", None, "2025-04-03"),
    ],
)
def test_dates_that_are_read(text: str, day_first: bool | None, day: str) -> None:
    assert DateReader(day_first).read(text) == day


@pytest.mark.parametrize("day_first", [None, True, False])
@pytest.mark.parametrize(
    "text",
    ["2025-04-03.", "2025-04-03,", "2025/4/3 Thu", "Thu 2025-04-03", "2025. 04. 03.", "2025 - 04 - 03", "2025, 4, 3"],
)
def test_after_a_year_the_month_comes_first(text: str, day_first: bool | None) -> None:
    assert DateReader(day_first).read(text) == "2025-04-03"


@pytest.mark.parametrize("day_first", [None, True, False])
@pytest.mark.parametrize(
    "text",
    [
        "3-5 April 2025",
        "10-12 April 2025",
        "25-27 April 2025",
        "April 3-5, 2025",
        "1st/2nd May 2025",
        "3 and 5 April 2025",
        "2025-04-03 10:00 to 2025-05-01",
        "2025-04-03 - 05",
        "2025-13-04 Thu",
    ],
)
def test_ranges_of_dates_and_a_thirteenth_month_are_refused(text: str, day_first: bool | None) -> None:
    with pytest.raises(UnreadableError):
        DateReader(day_first).read(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "03/04/2025",
        "03.04.2025",
        "03/04/25",
        "25/04/25",
        "April 2025",
        "Friday April 2025",
        "04/2025",
        "2025",
        "3 April",
        "today",
        "10:30",
        "31 April 2025",
        "2025-02-30",
        "12345678",
        "3 April 2025 or 4 April 2026",
        "best before 3 April 2025",
        "2025" * 5000,
        "3 April 2025\x00",
        "NaN",
        "99/99/2025",
    ],
)
def test_dates_that_are_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        DateReader().read(text)


SIGNS = st.text("0123456789.,/-+x'\"½² \tkglbozinft°Capril²m\x00∞", max_size=40)


@settings(max_examples=100)
@given(text=SIGNS | st.text(max_size=70), reader=st.sampled_from([NumberReader(), DateReader(), QuantityReader("kg")]))
@example("1" * 64 + " kg", QuantityReader("kg"))
def test_any_text_is_read_or_refused(text: str, reader: Reader) -> None:
    try:
        value = reader.read(text)
    except UnreadableError:
        return
    numbers = [value["least"], value["most"]] if isinstance(value, dict) else [value]
    assert all(isinstance(each, str) or math.isfinite(each) for each in numbers)


@settings(max_examples=60)
@given(number=st.integers(0, 10**9), unit=st.sampled_from(["kg", "lb", "oz", "g", "mg"]))
def test_a_plain_number_with_a_unit_is_its_own_value(number: int, unit: str) -> None:
    assert QuantityReader(unit).read(f"{number} {unit}")["value"] == number

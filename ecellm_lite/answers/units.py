"""The units that products are measured in, as shops write them; pint converts between them.

Only units that are listed here are read. A general parser of units would find units in any text: to pint, `pins` are
picoinches. Two units can be converted into each other if they are of the same kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

from ecellm_lite.answers.numbers import UnreadableError
from ecellm_lite.errors import UsageError

System = Literal["us", "imperial"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its name in the package pint, and its kind, such as `mass`."""

    name: str
    kind: str


# For each kind, pint's name of a unit and its spellings in lower case. A hyphen or a dot counts as a space.
_SPELLINGS: Mapping[str, Mapping[str, str]] = {
    "mass": {
        "kilogram": "kg, kgs, kilo, kilos, kilogram, kilograms, kilogramme, kilogrammes",
        "gram": "g, gm, gms, gram, grams, gramme, grammes",
        "milligram": "mg, milligram, milligrams",
        "microgram": "μg, mcg, ug, microgram, micrograms",
        "metric_ton": "tonne, tonnes, metric ton, metric tons",
        "short_ton": "ton, tons",
        "stone": "stone, stones",
        "pound": "lb, lbs, pound, pounds",
        "ounce": "oz, ounce, ounces",
        "carat": "carat, carats",
    },
    "volume": {
        "liter": "l, ltr, ltrs, liter, liters, litre, litres",
        "deciliter": "dl, deciliter, deciliters, decilitre, decilitres",
        "centiliter": "cl, centiliter, centiliters, centilitre, centilitres",
        "milliliter": "ml, mls, milliliter, milliliters, millilitre, millilitres",
        "gallon": "gal, gals, gallon, gallons",
        "quart": "qt, qts, quart, quarts",
        "pint": "pt, pts, pint, pints",
        "cup": "cup, cups",
        "fluid_ounce": "fl oz, floz, fl ounce, fl ounces, fluid oz, fluid ounce, fluid ounces",
        "tablespoon": "tbsp, tbsps, tablespoon, tablespoons",
        "teaspoon": "tsp, tsps, teaspoon, teaspoons",
        "meter**3": "m3, cubic meter, cubic meters, cubic metre, cubic metres",
        "centimeter**3": "cm3, cc, ccm, cubic centimeter, cubic centimeters, cubic centimetre, cubic centimetres",
        "foot**3": "ft3, cu ft, cubic foot, cubic feet",
        "inch**3": "in3, cu in, cubic inch, cubic inches",
    },
    "length": {
        "kilometer": "km, kilometer, kilometers, kilometre, kilometres",
        "meter": "meter, meters, metre, metres",
        "decimeter": "dm, decimeter, decimeters, decimetre, decimetres",
        "centimeter": "cm, cms, centimeter, centimeters, centimetre, centimetres",
        "millimeter": "mm, mms, millimeter, millimeters, millimetre, millimetres",
        "micrometer": "μm, um, micron, microns, micrometer, micrometers, micrometre, micrometres",
        "mile": "mi, mile, miles",
        "yard": "yd, yds, yard, yards",
        "foot": "ft, foot, feet, '",
        "inch": 'in, ins, inch, inches, "',
    },
    "area": {
        "meter**2": "m2, sq m, sqm, square meter, square meters, square metre, square metres",
        "centimeter**2": "cm2, sq cm, square centimeter, square centimeters, square centimetre, square centimetres",
        "millimeter**2": "mm2, sq mm, square millimeter, square millimeters, square millimetre, square millimetres",
        "foot**2": "ft2, sq ft, sqft, square foot, square feet",
        "inch**2": "in2, sq in, square inch, square inches",
        "acre": "acre, acres",
        "hectare": "ha, hectare, hectares",
    },
    "time": {
        "year": "yr, yrs, year, years",
        "month": "month, months",
        "week": "wk, wks, week, weeks",
        "day": "day, days",
        "hour": "h, hr, hrs, hour, hours",
        "minute": "min, mins, minute, minutes",
        "second": "s, sec, secs, second, seconds",
        "millisecond": "ms, millisecond, milliseconds",
    },
    "data": {
        "byte": "byte, bytes",
        "kilobyte": "kb, kilobyte, kilobytes",
        "megabyte": "mb, megabyte, megabytes",
        "gigabyte": "gb, gigabyte, gigabytes",
        "terabyte": "tb, terabyte, terabytes",
        "kibibyte": "kib",
        "mebibyte": "mib",
        "gibibyte": "gib",
        "tebibyte": "tib",
    },
    "power": {"watt": "w, watt, watts", "kilowatt": "kw, kilowatt, kilowatts"},
    "energy": {
        "watt*hour": "wh, watt hour, watt hours",
        "kilowatt*hour": "kwh, kilowatt hour, kilowatt hours",
        "joule": "joule, joules",
        "kilojoule": "kj, kilojoule, kilojoules",
        "kilocalorie": "kcal, kilocalorie, kilocalories",
    },
    "voltage": {"volt": "v, volt, volts", "kilovolt": "kv"},
    "current": {"ampere": "amp, amps, ampere, amperes", "milliampere": "ma, milliamp, milliamps"},
    "charge": {"ampere*hour": "ah, amp hour, amp hours", "milliampere*hour": "mah"},
    "resistance": {"ohm": "ω, ohm, ohms", "kiloohm": "kω, kohm"},
    "frequency": {"hertz": "hz, hertz", "kilohertz": "khz", "megahertz": "mhz", "gigahertz": "ghz"},
    "rotation": {"revolution/minute": "rpm"},
    "temperature": {
        "degree_Celsius": "°c, degrees c, degrees celsius, celsius",
        "degree_Fahrenheit": "°f, degrees f, degrees fahrenheit, fahrenheit",
        "kelvin": "kelvin",
    },
    "angle": {"degree": "°, deg, degree, degrees"},
    "pressure": {"bar": "bar, bars", "psi": "psi", "pascal": "pascal", "kilopascal": "kpa"},
    "speed": {"kilometer/hour": "km/h, kmh, kph", "mile/hour": "mph", "meter/second": "m/s"},
    "force": {"newton": "newton, newtons"},
    "torque": {"newton*meter": "newton meter, newton meters", "foot*force_pound": "ft lb, ft lbs"},
    "light": {"lumen": "lm, lumen, lumens"},
    "illuminance": {"lux": "lx, lux"},
    "share": {"percent": "%, percent"},
}

_UNITS: Mapping[str, Unit] = {
    spelling: Unit(name, kind)
    for kind, names in _SPELLINGS.items()
    for name, spellings in names.items()
    for spelling in spellings.split(", ")
}

# Spellings that mean this only in this case. `M` is a size, `Gb` may be gigabits, and MW is not mW.
_EXACT: Mapping[str, Unit | None] = {
    "m": Unit("meter", "length"),
    "M": None,
    "t": Unit("metric_ton", "mass"),
    "A": Unit("ampere", "current"),
    "K": Unit("kelvin", "temperature"),
    "N": Unit("newton", "force"),
    "J": Unit("joule", "energy"),
    "Pa": Unit("pascal", "pressure"),
    "MPa": Unit("megapascal", "pressure"),
    "mW": Unit("milliwatt", "power"),
    "MW": Unit("megawatt", "power"),
    "mV": Unit("millivolt", "voltage"),
    "Nm": Unit("newton*meter", "torque"),
    "nm": Unit("nanometer", "length"),
    "G": None,
    "S": None,
    "H": None,
    "Kb": None,
    "Mb": None,
    "Gb": None,
    "Tb": None,
}

# The units that British measures give another size; None for those that have no fixed one.
_IMPERIAL: Mapping[str, str | None] = {
    "gallon": "imperial_gallon",
    "quart": "imperial_quart",
    "pint": "imperial_pint",
    "fluid_ounce": "imperial_fluid_ounce",
    "short_ton": "long_ton",
    "cup": None,
    "tablespoon": None,
    "teaspoon": None,
}

_SPACES = re.compile(r"[\s.-]+")


def unit_of(spelling: str, system: System = "us") -> Unit:
    """Return the unit with this spelling, such as `kg`. Raises UnreadableError if there is none.

    `system` decides whether units such as gallons are US or imperial units.
    """
    name = _SPACES.sub(" ", spelling).strip()
    unit = _EXACT[name] if name in _EXACT else _UNITS.get(name.lower())
    if unit and system == "imperial" and unit.name in _IMPERIAL:
        imperial = _IMPERIAL[unit.name]
        unit = Unit(imperial, unit.kind) if imperial else None
    if unit is None:
        raise UnreadableError(f"{name[:20]!r} is not a known unit" if name else "it has no unit")
    return unit


@lru_cache(maxsize=1024)
def _line(source: str, target: str) -> tuple[float, float]:
    """Return the slope and the offset of the conversion from one of pint's units to another."""
    registry = units_registry()
    zero, one = (registry.Quantity(float(value), source).to(target).magnitude for value in (0, 1))
    return one - zero, zero


def converted(value: float, source: Unit, target: Unit) -> float:
    """Return a value in another unit. Raises UnreadableError if the units are of different kinds."""
    if source.kind != target.kind:
        raise UnreadableError(f"its unit measures {source.kind}, not {target.kind}")
    if source == target:
        return value
    slope, offset = _line(source.name, target.name)
    return value * slope + offset


@lru_cache(maxsize=1)
def units_registry() -> Any:
    """Return pint's registry of units. Raises UsageError if pint is not installed."""
    try:
        return import_module("pint").UnitRegistry()
    except ImportError:
        raise UsageError("Quantities need pint", step="run `pip install 'ecellm-lite[units]'`") from None

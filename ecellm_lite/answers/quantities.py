"""Reads quantities as they are written in product texts, and converts them to one unit.

| written | read as |
|---|---|
| `20-lb.`, `1 ½ cups`, `12 fl oz`, `64GB` | a number and a unit |
| `5'10"`, `6 ft 2 in`, `1 h 30 min` | a sum of units |
| `10-12 in`, `5 to 8 kg` | a range |
| `6 x 330 ml`, `2 x 8 GB` | a pack: the total of all parts, and how many parts there are |

Anything else is refused, such as `10 x 20 cm`, `about 5 kg` and a number without a unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ecellm_lite.answers.numbers import NUMBER, Decimal, UnreadableError, cleaned, number_of, tidy
from ecellm_lite.answers.units import System, Unit, converted, unit_of

# A unit has no digits, except the power at its end in m2 and ft3.
_UNIT = r"(?:[^\d]{1,30}?(?:[23](?!\d))?)"

_SINGLE = re.compile(rf"(?P<sign>[+-]?)\s*(?P<number>{NUMBER})(?P<unit>{_UNIT})", re.ASCII)
_PART = re.compile(rf"(?P<number>{NUMBER})(?P<unit>[^\d]{{1,30}})", re.ASCII)
_RANGE = re.compile(
    rf"(?P<sign>[+-]?)(?P<number>{NUMBER})(?P<unit>{_UNIT}?)\s*(?:-|\bto\b)\s*"
    rf"(?P<sign2>[+-]?)(?P<number2>{NUMBER})(?P<unit2>{_UNIT})",
    re.ASCII,
)
_PACK = re.compile(r"(?P<count>[1-9]\d{0,3})\s?[x*]\s?(?P<each>\d.*)", re.ASCII | re.IGNORECASE)
_PACK_AFTER = re.compile(r"(?P<each>.*[^\d\s])\s?[x*]\s?(?P<count>[1-9]\d{0,3})", re.ASCII | re.IGNORECASE)

# What may have several equal parts. Of two lengths with an x between them, the second is another side.
_PACKED = frozenset(("mass", "volume", "data"))

# A sum's units: each may be followed by these smaller ones.
_SMALLER = {
    "mile": {"yard", "foot"},
    "yard": {"foot", "inch"},
    "foot": {"inch"},
    "meter": {"centimeter"},
    "stone": {"pound"},
    "pound": {"ounce"},
    "kilogram": {"gram"},
    "year": {"month"},
    "week": {"day"},
    "day": {"hour"},
    "hour": {"minute"},
    "minute": {"second"},
}


@dataclass(frozen=True, slots=True)
class QuantityReader:
    """Reads quantities and converts them to `unit`. The answer repeats `unit` as the user spelled it.

    - `system`: whether gallons, fluid ounces and tons are US or imperial ones.
    - `decimal`: `.` if the texts write 1.5, `,` if they write 1,5, and None if they write both.
    """

    unit: str
    system: System = "us"
    decimal: Decimal | None = None

    @property
    def description(self) -> str:
        """What `read` expects, for an error message."""
        return f"a quantity in {self.unit}"

    def read(self, text: str) -> dict[str, Any]:
        """Return the quantity as a dict with `value`, `unit`, `least`, `most` and `count`.

        For "5 kg", `value`, `least` and `most` are 5. For the range "5 to 8 kg", `least` is 5, `most` is 8, and `value`
        is None. For the pack "6 x 330 ml", `count` is 6, and `value` is the total.

        Raises UnreadableError for a text that is not a quantity, or that can be read in more than one way.
        """
        text = cleaned(text)
        if match := _PACK.fullmatch(text) or _PACK_AFTER.fullmatch(text):
            least, most, count = *self._pack(match), int(match["count"])
        else:
            (least, most), count = self._amount(text), 1
        least, most = tidy(least), tidy(most)
        return {
            "value": least if least == most else None,
            "unit": self.unit,
            "least": least,
            "most": most,
            "count": count,
        }

    def _amount(self, text: str) -> tuple[float, float]:
        if match := _SINGLE.fullmatch(text):
            value = self._value(match["sign"], match["number"], unit_of(match["unit"], self.system))
            return value, value
        if match := _RANGE.fullmatch(text):
            unit = unit_of(match["unit2"], self.system)
            if match["unit"].strip() and unit_of(match["unit"], self.system) != unit:
                raise UnreadableError("it is a range in two units")
            least = self._value(match["sign"], match["number"], unit)
            most = self._value(match["sign2"], match["number2"], unit)
            if least >= most:
                raise UnreadableError("it is not a range from a smaller to a larger number")
            return least, most
        value = self._sum(text)
        return value, value

    def _pack(self, match: re.Match[str]) -> tuple[float, float]:
        single = _SINGLE.fullmatch(match["each"])
        unit = single and unit_of(single["unit"], self.system)
        if not single or not unit or unit.kind not in _PACKED:
            raise UnreadableError("it has several measures")
        value = int(match["count"]) * self._value("", single["number"], unit)
        return value, value

    def _sum(self, text: str) -> float:
        parts = list(_PART.finditer(text))
        if len(parts) < 2 or "".join(part[0] for part in parts) != text:
            raise UnreadableError("it is not a number with a unit")
        total = 0.0
        larger: Unit | None = None
        for index, part in enumerate(parts):
            spelling = re.sub(r"(?:,|\band\b)\s*$", "", part["unit"])
            unit = unit_of(spelling, self.system)
            number = number_of(part["number"], self.decimal)
            if larger and (unit.name not in _SMALLER.get(larger.name, ()) or converted(number, unit, larger) >= 1):
                raise UnreadableError("it has several measures")
            if index < len(parts) - 1 and not number.is_integer():
                raise UnreadableError("it has several measures")
            total += self._value("", part["number"], unit)
            larger = unit
        return total

    def _value(self, sign: str, number: str, unit: Unit) -> float:
        if sign == "-" and unit.kind != "temperature":
            raise UnreadableError("it is negative")
        value = float(number_of(number, self.decimal))
        return converted(-value if sign == "-" else value, unit, unit_of(self.unit, self.system))

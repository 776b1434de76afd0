"""Different names for the same attribute, such as Color and Colour, to vary the names in training rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import Random

# By the attribute's key, which the made rows use. Some names are those of two attributes.
NAMES: Mapping[str, tuple[str, ...]] = {
    "brand": ("Brand", "Brand Name", "Manufacturer"),
    "type": ("Product Type", "Type", "Item Type"),
    "content": ("Net Content", "Net Weight", "Content", "Package Size"),
    "volume": ("Net Content", "Volume", "Liquid Volume", "Content"),
    "pack": ("Pack Size", "Pack Quantity", "Number of Items", "Quantity"),
    "count": ("Count", "Unit Count", "Quantity", "Number of Pieces"),
    "flavor": ("Flavor", "Flavour", "Taste"),
    "scent": ("Scent", "Fragrance", "Fragrance Name"),
    "form": ("Item Form", "Form", "Product Form"),
    "color": ("Color", "Colour", "Color(s)", "Color Name"),
    "capacity": ("Capacity", "Storage Capacity", "Memory Size"),
    "fill": ("Capacity", "Volume"),
    "model": ("Model Number", "Model", "Part Number", "Item Model Number"),
    "spf": ("SPF", "Sun Protection Factor"),
    "hair": ("Hair Type", "Type of Hair"),
    "skin": ("Skin Type", "Type of Skin"),
    "age": ("Age Range", "Age", "Recommended Age"),
    "diet": ("Diet Type", "Dietary Feature", "Specialty"),
    "ingredient": ("Active Ingredient", "Key Ingredient", "Special Ingredients"),
    "benefit": ("Benefit", "Product Benefit", "Special Feature"),
    "roast": ("Roast Level", "Roast"),
    "strength": ("Strength", "Dosage", "Potency"),
    "screen": ("Screen Size", "Display Size"),
    "power": ("Wattage", "Power"),
    "voltage": ("Voltage", "Volts"),
    "interface": ("Interface", "Connection", "Connectivity"),
    "length": ("Length", "Cable Length", "Item Length"),
    "size": ("Size", "Item Size"),
    "diameter": ("Diameter", "Width"),
    "material": ("Material", "Material Type"),
    "gender": ("Gender", "Department", "Target Gender"),
    "breed": ("Breed Size", "Animal Size"),
    "weight": ("Weight", "Item Weight"),
    "finish": ("Finish", "Finish Type"),
    "pages": ("Page Count", "Number of Pages", "Sheet Count"),
    "sport": ("Sport Type", "Sport"),
    "fabric": ("Fabric Type", "Fabric"),
    "season": ("Season", "Time of Year"),
}
# Attributes whose name in the labelled rows often means something narrower than the other names do.
_KEPT = frozenset(("type", "model", "length", "diameter", "age"))


def other_name(name: str, others: Collection[str], random: Random) -> str:
    """Return a random name for the attribute that is called `name`. For Color, it may be Colour, or Color itself.

    `others`: the names of the row's other attributes.

    The result is always `name` in these cases:

    - No attribute in `NAMES` has this name, or two have it, as with Quantity.
    - The attribute's key in `NAMES` is also in `_KEPT`.
    - One of `others` is another name for this attribute.
    """
    wordings = [names for key, names in NAMES.items() if name in names and key not in _KEPT]
    if len(wordings) != 1 or any(other in wordings[0] for other in others):
        return name
    shared = {each for names in NAMES.values() if names != wordings[0] for each in names}
    return random.choice([each for each in wordings[0] if each == name or each not in shared])

"""Sorts waiting requests by age, with related requests next to each other.

Requests are related if they share so much text that the model should read it only once. Related requests are called a
family. The instruction does not count as shared text, because it stays in memory anyway. A family runs when its oldest
request's turn comes. A large family is split, so that other requests run in between.
"""

from __future__ import annotations

from collections.abc import Sequence

from ecellm_lite.engine.prefixes import LEAST_SAVING, common_length
from ecellm_lite.engine.request import Request

# The most requests that leave together. The text that they share is read again for each further part of a family at
# worst, so larger parts would save little.
FAMILY = 32

# Up to so many instructions stay in memory while rows of all of them run (there are 16 places, some for other text).
# Of more, each would be dropped before its next row comes, so rows with the same instruction leave together.
INSTRUCTIONS = 12


def by_family(requests: Sequence[Request]) -> list[Request]:
    """Return the requests, sorted so that related requests (a family) follow each other.

    Requests are related if their prompts begin with so much equal text that the model should read it only once.
    `requests` must be in order of arrival. The family of the oldest request comes first. The members of a family are
    sorted by their prompts.
    """
    many = len({tuple(request.prompt[: request.opening]) for request in requests}) > INSTRUCTIONS
    families: list[list[int]] = []
    for place in sorted(range(len(requests)), key=lambda place: tuple(requests[place].prompt)):
        family = families[-1] if families else []
        if family and len(family) < FAMILY and _related(requests[family[-1]], requests[place], many=many):
            family.append(place)
        else:
            families.append([place])
    return [requests[place] for family in sorted(families, key=min) for place in family]


def _related(one: Request, other: Request, *, many: bool) -> bool:
    """Return whether two prompts begin with enough equal tokens that their requests should run one after the other.

    `many`: whether there are too many instructions to keep in memory.
    """
    opening = min(one.opening, other.opening)
    least = max(opening, LEAST_SAVING) if many else opening + LEAST_SAVING
    return common_length(one.prompt, other.prompt) >= least

"""Finds the likeliest of many labels by a best-first search over a sorted matrix of their tokens.

The search looks at a node: the labels that begin with the same tokens. Its probability is the product of the choices
that led to it, so a label is never likelier than the node above it. The search always asks the model about the
likeliest node that is not yet a single label. The first label that it reaches is therefore the likeliest of all.

A sure model is asked once for each place where labels differ on the way to the answer. An unsure model would be asked
more often. `detours` limits that: it is how many questions may lead elsewhere than to the answer. Nodes that would need
more are left unexplored, and the answer says how much probability they have.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator
from dataclasses import dataclass

from ecellm_lite.answers.candidates import Candidates
from ecellm_lite.answers.decoding import Logits, Step
from ecellm_lite.answers.probabilities import restrict
from ecellm_lite.answers.tape import Tape


@dataclass(frozen=True, slots=True, order=True)
class _Node:
    """The rows [low, high) of the matrix, which have the same first `depth` tokens; the likeliest node is the least.

    `asked`: how many questions led to it.
    """

    cost: float  # the negative of its probability
    low: int
    high: int
    depth: int
    asked: int


@dataclass(frozen=True, slots=True)
class Found:
    """The labels that a search reached.

    - `labels`: the index of each label in the original order with its probability, the likeliest first; at least one.
    - `unexplored`: the probability of all nodes that were left.
    - `coverage`: the coverage of the first question; 1 if there was none.
    """

    labels: tuple[tuple[int, float], ...]
    unexplored: float
    coverage: float


def search(
    candidates: Candidates, tape: Tape, *, detours: int, best: int, least: float = 0.0
) -> Generator[Step, Logits, Found]:
    """Return the likeliest label, and the next likeliest ones, at most `best` in all.

    With enough `detours`, the labels are the likeliest of all; nodes less probable than `least` are only asked about
    until the first label is reached. The tape must be empty.
    """
    nodes = [_Node(-1.0, 0, len(candidates.order), 0, 0)]
    labels: list[_Node] = []
    coverage: float | None = None
    asked, unexplored = 0, 0.0
    while nodes and len(labels) < best:
        node = heapq.heappop(nodes)
        if node.high - node.low == 1:
            labels.append(node)
        elif asked - node.asked > detours or (labels and (asked - labels[0].asked >= detours or -node.cost < least)):
            unexplored -= node.cost
        else:
            depth = node.depth
            while len((branches := candidates.branches(node.low, node.high, depth)).tokens) == 1:
                depth += 1
            tape.move(candidates.matrix[node.low, :depth].tolist())
            restricted = restrict((yield tape.step()), branches.tokens)
            coverage = restricted.coverage if coverage is None else coverage
            asked += 1
            for branch, share in enumerate(restricted.shares.tolist()):
                low, high = int(branches.starts[branch]), int(branches.starts[branch + 1])
                heapq.heappush(nodes, _Node(node.cost * share, low, high, depth + 1, node.asked + 1))
    unexplored -= sum(node.cost for node in nodes if node.high - node.low > 1)
    labels.sort()
    reached = tuple((candidates.order[node.low], -node.cost) for node in labels)
    return Found(reached, min(1.0, max(0.0, unexplored)), 1.0 if coverage is None else coverage)

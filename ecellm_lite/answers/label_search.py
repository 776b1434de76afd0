"""Finds the likeliest of many labels by a best-first search. The labels' tokens are in a sorted matrix.

A node of the search stands for all labels that begin with the same tokens. Its probability is the product of the
probabilities of these tokens. So a label is never likelier than a node that it belongs to. The search always asks the
model about the likeliest node. Therefore, the first node that is a single label is the likeliest label of all.

If the model is sure, it is asked once for each token of the answer. Tokens that are the same in all remaining labels
need no question. If the model is unsure, the search also asks about nodes on the way to other labels. `detours` limits
the number of these extra questions. When the limit is reached, the model is not asked about the other nodes. Their
total probability is reported as `unexplored`.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from ecellm_lite.answers.candidates import Candidates
from ecellm_lite.answers.decoding import Logits, Step
from ecellm_lite.answers.probabilities import restrict, shares
from ecellm_lite.answers.tape import Tape


@dataclass(frozen=True, slots=True, order=True)
class _Node:
    """A node of the search: the labels (rows of the token matrix) that have the same first `depth` tokens.

    They are the rows from `low` up to, but not including, `high`. Nodes are sorted by probability, the likeliest
    first. `questions`: how many times the model was asked on the way to this node.
    """

    cost: float  # the negative of its probability
    low: int
    high: int
    depth: int
    questions: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The labels that a search reached.

    - `labels`: a pair for each label, the likeliest label first: its index in the original order, and its probability.
      There is at least one label.
    - `tokens`: the tokens of the likeliest label, without the token that ends it.
    - `unexplored`: the total probability of the nodes that the search did not explore. A node stands for all labels
      that begin with the same tokens.
    - `coverage`: the coverage of the first question to the model, or 1 if the model was not asked.
    """

    labels: tuple[tuple[int, float], ...]
    tokens: Sequence[int]
    unexplored: float
    coverage: float


def search(
    candidates: Candidates, tape: Tape, *, detours: int, best: int, least: float = 0.0, before: Sequence[int] = ()
) -> Generator[Step, Logits, SearchResult]:
    """Return up to `best` labels, the likeliest first. With enough `detours`, these are the likeliest of all labels.

    `detours`: how many extra questions the model may be asked on the way to other labels than the likeliest.
    `least`: after the first label is reached, nodes (beginnings of labels) less likely than this are not explored.
    `before`: the tokens that the answer already has when the search begins. They are also on `tape`, which has all
      tokens of the answer so far.
    """
    nodes = [_Node(-1.0, 0, len(candidates.order), 0, 0)]
    labels: list[_Node] = []
    coverage: float | None = None
    questions, unexplored = 0, 0.0
    while nodes and len(labels) < best:
        node = heapq.heappop(nodes)
        if node.high - node.low == 1:
            labels.append(node)
        elif questions - node.questions > detours or (
            labels and (questions - labels[0].questions >= detours or -node.cost < least)
        ):
            unexplored -= node.cost
        else:
            depth = node.depth
            while len((branches := candidates.branches(node.low, node.high, depth)).tokens) == 1:
                depth += 1
            tape.move([*before, *candidates.matrix[node.low, :depth].tolist()])
            logits = yield tape.step()
            if coverage is None:
                restricted = restrict(logits, branches.tokens)
                coverage, chances = restricted.coverage, restricted.shares
            else:
                chances = shares(logits, branches.tokens)
            questions += 1
            for branch, share in enumerate(chances.tolist()):
                low, high = int(branches.starts[branch]), int(branches.starts[branch + 1])
                heapq.heappush(nodes, _Node(node.cost * share, low, high, depth + 1, node.questions + 1))
    unexplored -= sum(node.cost for node in nodes if node.high - node.low > 1)
    labels.sort()
    reached = tuple((candidates.order[node.low], -node.cost) for node in labels)
    tokens = candidates.remaining_tokens(labels[0].low, 0)
    return SearchResult(reached, tokens, min(1.0, max(0.0, unexplored)), 1.0 if coverage is None else coverage)

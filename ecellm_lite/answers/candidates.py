"""Finds the answer among a fixed set of candidates, using a sorted matrix of their tokens.

Each possible answer is tokenized as a continuation of the prompt. Its tokens are one row of the matrix, and the rows
are sorted. So rows that begin with the same tokens are neighbors. Each chosen token leaves fewer rows: those that begin
with all tokens chosen so far. The next column of these rows has the tokens that may come next. The index of that column
is called `depth`. If only one token may come next, this token is *forced*: no model is needed to choose it. If several
tokens may come next, a softmax over their logits gives their probabilities. Each row ends with the end-of-sequence
token. Thanks to this token, "red" and "red wine" may be answers of the same set.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.answers.decoding import Logits, Probabilities, Step
from ecellm_lite.answers.probabilities import restrict
from ecellm_lite.answers.tape import Tape

_PAD = -1


@dataclass(frozen=True, slots=True)
class Branches:
    """The tokens that may come next, and for each of these tokens, the candidate answers that go on with it.

    Each candidate answer is a row in the matrix of class Candidates. Rows that go on with the same token are a group.

    - `tokens`: the tokens, all different, in ascending order.
    - `starts`: the index of each group's first row. The last entry is the index after the last group's last row.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.intp]


class Candidates:
    """Candidate answers as a sorted matrix of tokens (rows, width), in int32. Short rows are padded with -1.

    - `rows`: the candidates' tokens in their original order, all different.
    - `end`: the token that ends an answer; it is appended to each row.
    - `order`: for each row of the matrix, the candidate's index in `rows`.
    """

    def __init__(self, rows: Sequence[Sequence[int]], end: int) -> None:
        self.end = end
        closed = [(*row, end) for row in rows]
        self.order = sorted(range(len(closed)), key=closed.__getitem__)
        self.matrix = np.full((len(closed), max(map(len, closed))), _PAD, dtype=np.int32)
        for place, index in enumerate(self.order):
            self.matrix[place, : len(closed[index])] = closed[index]

    @classmethod
    def restored(cls, matrix: NDArray[np.int32], order: list[int], end: int) -> Candidates:
        """Return candidates without sorting: `matrix` and `order` come from candidates that were sorted earlier."""
        candidates = cls.__new__(cls)
        candidates.matrix, candidates.order, candidates.end = matrix, order, end
        return candidates

    def branches(self, low: int, high: int, depth: int) -> Branches:
        """Return the tokens that may come next: those in column `depth` of the matrix, in its rows `low` to `high - 1`.

        Each row of `self.matrix` has the tokens of one candidate. The rows from `low` to `high - 1` must have the same
        tokens before column `depth`.
        """
        column = self.matrix[low:high, depth]
        starts = np.concatenate(([0], np.flatnonzero(column[1:] != column[:-1]) + 1))
        return Branches(column[starts], np.append(starts, high - low) + low)

    def common_path(self, low: int, high: int, depth: int, most: int) -> list[int]:
        """Return a path of tokens through the matrix's rows `low` to `high - 1`, from column `depth` on.

        The path has at most `most` tokens, and may be empty. Each of its tokens is the commonest one in its column,
        among the rows that have all earlier tokens of the path. The path ends before the last column in which these
        rows differ. The tokens after this column are forced, so the model need not read further.
        """
        tokens: list[int] = []
        ends = 0
        while high - low > 1:
            next_ = self.branches(low, high, depth)
            if len(next_.tokens) > 1:
                ends = len(tokens)
            if len(tokens) == most:
                break
            largest = int(np.diff(next_.starts).argmax())
            tokens.append(int(next_.tokens[largest]))
            low, high = int(next_.starts[largest]), int(next_.starts[largest + 1])
            depth += 1
        return tokens[:ends]

    def remaining_tokens(self, row: int, depth: int) -> list[int]:
        """Return the tokens of the matrix's row `row` from column `depth` on, without the token `end`."""
        tokens = self.matrix[row, depth:]
        remaining: list[int] = tokens[tokens != _PAD][:-1].tolist()
        return remaining


@dataclass(frozen=True, slots=True)
class ChosenCandidate:
    """The candidate that `walk` chose.

    - `index`: the candidate's index in the original order.
    - `probability`: the product of the chosen tokens' probabilities. At each choice, the allowed tokens' probabilities
      sum to 1.
    - `coverage`: the lowest coverage of all choices; 1 if there was no choice.
    """

    index: int
    probability: float
    coverage: float

    def then(self, other: ChosenCandidate) -> ChosenCandidate:
        """Combine this choice with a later choice (`other`) in the same answer.

        The probabilities are multiplied, the lower coverage is kept, and the index is that of the later choice.
        """
        return ChosenCandidate(other.index, self.probability * other.probability, min(self.coverage, other.coverage))


def walk(candidates: Candidates, tape: Tape, *, depth: int = 0) -> Generator[Step, Logits, ChosenCandidate]:
    """Choose a candidate by taking the likeliest token wherever candidates differ, and append its tokens to `tape`.

    The tape is the answer's tokens so far. It already holds the first `depth` tokens, which all candidates have in
    common. The tokens after the last choice are forced. The model reads them only if the answer continues after the
    candidate.
    """
    low, high = 0, len(candidates.order)
    probability = coverage = 1.0
    while high - low > 1:
        next_ = candidates.branches(low, high, depth)
        if len(next_.tokens) == 1:
            tape.force(next_.tokens.tolist())
        else:
            restricted = restrict((yield tape.step()), next_.tokens)
            best = int(restricted.shares.argmax())
            probability *= float(restricted.shares[best])
            coverage = min(coverage, restricted.coverage)
            if next_.tokens[best] != candidates.end:
                tape.choose(int(next_.tokens[best]))
            low, high = int(next_.starts[best]), int(next_.starts[best + 1])
        depth += 1
    tape.force(candidates.remaining_tokens(low, depth))
    return ChosenCandidate(candidates.order[low], probability, coverage)


@dataclass(frozen=True, slots=True)
class CandidateShares:
    """The result of `weigh`.

    `shares`: each candidate's probability, in the candidates' original order. They sum to 1.
    `coverage`: how much of the model's probability is on allowed tokens, at the first token that the model must choose.
    """

    shares: Probabilities
    coverage: float


def weigh(candidates: Candidates, tape: Tape, *, drafts: int = 0) -> Generator[Step, Logits, CandidateShares]:
    """Return the exact probability of each candidate. The model is asked at every position where two candidates differ.

    Each candidate is a whole answer, right after the prompt. Often all candidates have different first tokens, for
    example the letters of options. Then the logits after the prompt are enough, and the model is not called again.
    Otherwise, the model reads up to `drafts` tokens in advance: at each position, the token that most of the remaining
    candidates have there. One call then gives the logits at several positions. This saves calls if, for example,
    "red" and "red wine" are both candidates.
    """
    shares = np.zeros(len(candidates.order))
    coverage: float | None = None
    waiting: list[tuple[int, int, int, float]] = [(0, len(candidates.order), 0, 1.0)]
    while waiting:
        low, high, depth, share = waiting.pop()
        while high - low > 1 and len(candidates.branches(low, high, depth).tokens) == 1:
            depth += 1
        if high - low == 1:
            shares[candidates.order[low]] = share
            continue
        tape.move(candidates.matrix[low, :depth].tolist())
        path = candidates.common_path(low, high, depth, drafts)
        rows = np.atleast_2d((yield tape.step(path)))
        # No token follows the last row of logits: the path ends here, or the engine checked no further.
        for logits, token in zip_longest(rows, path[: len(rows) - 1]):
            next_ = candidates.branches(low, high, depth)
            restricted = restrict(logits, next_.tokens)
            coverage = restricted.coverage if coverage is None else coverage
            depth += 1
            # Pushed in reverse, so that branches are popped in order and each shares most with the previous one.
            for branch in reversed(range(len(next_.tokens))):
                part = share * float(restricted.shares[branch])
                node = (int(next_.starts[branch]), int(next_.starts[branch + 1]), depth, part)
                if next_.tokens[branch] == token:
                    onward = node
                else:
                    waiting.append(node)
            if token is not None:
                tape.confirm(token)
                low, high, _, share = onward
    return CandidateShares(shares / shares.sum(), 1.0 if coverage is None else coverage)

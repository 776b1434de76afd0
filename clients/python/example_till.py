"""Reads one review per line, and prints the sentiment of each review: python example_till.py [MODEL]."""

import sys

from ecellm_lite import EcellmError
from ecellm_lite.pipe.child_runtime import ChildRuntime

ENOUGH = 0.8  # below it a person decides


def main() -> None:
    """Print an answer for each line of standard input, until it ends."""
    with ChildRuntime(*sys.argv[1:2]) as runtime:
        for line in sys.stdin:
            try:
                answer = runtime.answer("sentiment_analysis", {"review": line.rstrip("\r\n")}, deadline_ms=30_000)
            except EcellmError as error:
                print(f"no answer ({error.code}): {error}  ask a person", flush=True)
                continue
            probability = answer.probability or 0.0
            advice = "  ask a person" if answer.abstained or probability < ENOUGH else ""
            print(f"{answer.text or 'not sure'}  {probability:.2f}{advice}", flush=True)


if __name__ == "__main__":
    main()

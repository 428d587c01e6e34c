"""The examples at the end of every command's help, in the one form that keeps its line breaks."""

from __future__ import annotations


def examples(*lines: str) -> str:
    r"""Return an epilog with one example per line, for ``command(epilog=...)``.

    ``\b`` alone on a line is how click is told not to refill the paragraph after it.
    """
    return "\n\n".join(("Examples:", "\b\n" + "\n".join(f"  {line}" for line in lines)))

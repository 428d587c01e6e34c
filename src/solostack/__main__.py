"""``python -m solostack``: the same as the solostack command."""

from __future__ import annotations

from solostack.cli.main import run

if __name__ == "__main__":
    run()

"""`python -m orcost_pipeline.simulator`: the simulator on a port until Ctrl-C. Only arguments and printing here."""

from __future__ import annotations

import argparse
import sys
import threading
from dataclasses import replace
from datetime import datetime

from orcost_pipeline.simulator.api import Simulator, wall_clock
from orcost_pipeline.simulator.ledger import Ledger
from orcost_pipeline.simulator.options import Options
from orcost_pipeline.simulator.scenario import demo, scale, small
from orcost_pipeline.simulator.server import serve


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orcost_pipeline.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--scenario", choices=("demo", "small", "scale"), default="demo")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    return parser.parse_args()


def _ledger(scenario: str, now: datetime, seed: int) -> Ledger:
    if scenario == "small":
        return small(now)
    return scale(now, seed=seed) if scenario == "scale" else demo(now, seed)


def main() -> None:
    """Prints base URL and management key, one a line, and serves."""
    arguments = _arguments()
    ledger = _ledger(arguments.scenario, wall_clock(), arguments.seed)
    latency_seconds = arguments.latency_ms / 1000
    options = replace(Options.live(), analytics_per_minute=64, cache_seconds=30, latency_seconds=latency_seconds)
    account = next(iter(ledger.accounts.values()))
    with serve(Simulator(ledger, options=options), arguments.port) as base_url:
        sys.stdout.write(f"OPENROUTER_BASE_URL={base_url}\nOPENROUTER_API_KEY={account.management_key}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

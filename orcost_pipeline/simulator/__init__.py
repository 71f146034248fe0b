"""An OpenRouter that knows the truth, for the demo, the tests and the benchmarks.

Build a `Ledger` (or take a scenario: `demo`, `small`, `scale`), put a `Simulator` in front of it, and ask it through
`httpx.MockTransport(simulator.handle)`, a respx side effect, or `serve(simulator)` on a real port. What it answers is
what the management API would; what is true is asked of the ledger: `hourly`, `daily`, `counters`, `credits_used`.
`Options` are the API's unknowns, `Fault`s the network's and the server's bad days.

Belongs here: the imitation. Stays out: Postgres, Dagster, and every other module of this package: the simulator must
not share a mistake with what it tests.
"""

from orcost_pipeline.simulator.api import Asked, Simulator
from orcost_pipeline.simulator.catalogue import Model
from orcost_pipeline.simulator.faults import Fault
from orcost_pipeline.simulator.ledger import ZERO, Account, ApiKey, Counters, Ledger, Usage
from orcost_pipeline.simulator.options import Options
from orcost_pipeline.simulator.scenario import demo, scale, small
from orcost_pipeline.simulator.server import serve

__all__ = [
    "ZERO",
    "Account",
    "ApiKey",
    "Asked",
    "Counters",
    "Fault",
    "Ledger",
    "Model",
    "Options",
    "Simulator",
    "Usage",
    "demo",
    "scale",
    "serve",
    "small",
]

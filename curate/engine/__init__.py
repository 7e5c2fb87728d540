"""The engine: one scheduler that owns what is in flight, and the run directory that remembers what is done.

plan ──► run ──► scheduler ──Work──► transport ──► HopRunner (in a worker)
                    ▲                    │
                    └── Part, Done, … ◄──┘
         run ◄── Settled ── ledger
          └──► store: commit units ──► writers ──► summary
"""

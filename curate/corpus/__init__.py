"""What stages on a whole corpus share: a gather that decides from keys, out of core, with DuckDB (extra `corpus`).

KeyGather     the base of such a stage: which keys it reads, and `decide(keys)`
KeyTable      the keys of all records, as a table of DuckDB
Decisions     the answer: a query with the position of each record and what happens to it

Importing this package loads neither DuckDB nor pyarrow; the driver does, when a gather begins.
"""

from curate.corpus.key_gather import Decisions, KeyGather
from curate.corpus.key_table import KeyTable

__all__ = ["Decisions", "KeyGather", "KeyTable"]

"""For the tests of plugin authors: what a stage or an executor must keep.

ExecutorContract         tests of an executor, to be inherited
"""

from curate.testing.executors import ExecutorContract

__all__ = ["ExecutorContract"]

"""A count of the programs that a process compiles or loads."""

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX's event for each program, loaded from the cache or compiled
LOADED = "/jax/compilation_cache/cache_hits"


class CompilationCounter:
    """Counts the programs of this process, from when it is made until it is closed.

    Attributes:
      compiled: programs that XLA compiled.
      loaded: programs that the persistent cache held.
      seconds: of both, without tracing and lowering; summed over threads.
    """

    def __init__(self):
        self.compiled = self.loaded = 0
        self.seconds = 0.0
        jax.monitoring.register_event_listener(self._count)
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def close(self):
        """Counts no longer."""
        jax.monitoring.unregister_event_listener(self._count)
        jax.monitoring.unregister_event_duration_listener(self._add)

    def _count(self, event, **details):
        if event == LOADED:
            self.loaded += 1
            self.compiled -= 1  # which `_add` counts when the program is there

    def _add(self, event, duration_secs, **details):
        if event == COMPILED:
            self.compiled += 1
            self.seconds += duration_secs

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

"""Patches made ahead of time in a thread. What comes out does not depend on it: a patch is a function of its index."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from bouton.learn.sampling import Patch


class Prefetch:
    """Callable like the sampler that it wraps; while the caller works, the next patches are made.

    Use it as a context manager, so that its threads end.

    Parameters
    ----------
    sample : callable
        ``sample(index)`` returns a :class:`~bouton.learn.sampling.Patch`.
    ahead : int
        Patches to make ahead; so many are held in memory.
    threads : int
    """

    def __init__(self, sample: Callable[[int], Patch], ahead: int, threads: int = 1) -> None:
        self._sample, self._ahead = sample, ahead
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="patches")
        self._coming: dict[int, Future[Patch]] = {}

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def __call__(self, index: int) -> Patch:
        wanted = range(index, index + self._ahead + 1)
        for old in [each for each in self._coming if each not in wanted]:
            self._coming.pop(old).cancel()
        for each in wanted:
            if each not in self._coming:
                self._coming[each] = self._threads.submit(self._sample, each)
        return self._coming.pop(index).result()

"""A search in memory: blocks of training rows, read while threads compare the last ones."""

from __future__ import annotations

import dataclasses
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from shiftproof.similarity.search.certificate import Tally
from shiftproof.similarity.search.engine import Engine
from shiftproof.similarity.search.engines import Chunk, prepare_passes
from shiftproof.similarity.search.options import SearchOptions, count_threads
from shiftproof.similarity.search.question import Found, Partial, Question
from shiftproof.similarity.search.tiles import ROWS
from shiftproof.similarity.sources import Block, Embeddings
from shiftproof.types import F32, Flags

Result = TypeVar("Result")


def search(
    question: Question[Found],
    train: Embeddings,
    tests: Mapping[str, Embeddings],
    options: SearchOptions,
    *,
    shards: Sequence[int] | None = None,
    keep: Flags | None = None,
) -> dict[str, Found]:
    """Answer a question for several test sets, in one pass if they fit in memory.

    Only training rows of ``shards`` are searched, and only those marked in ``keep`` ``(n,)``, over
    the whole source.

    Raises:
        InputError: too little memory, unusable rows, or a missing device.
    """
    threads = count_threads(options.threads)
    sample = sample_rows(train, shards)
    count = None if shards is None else sum(train.shards[shard].rows for shard in shards)
    passes = prepare_passes(train, tests, options, threads, sample, k=question.k, compared=count)
    return search_passes(question, train, tests, passes, threads, shards=shards, keep=keep)


def search_passes(
    question: Question[Found],
    train: Embeddings,
    tests: Mapping[str, Embeddings],
    passes: Iterable[list[Chunk]],
    threads: int,
    *,
    shards: Sequence[int] | None,
    keep: Flags | None,
) -> dict[str, Found]:
    """Search like :func:`search`, given the prepared test rows."""
    chosen = range(len(train.shards)) if shards is None else shards
    count = sum(train.shards[shard].rows for shard in chosen)
    answers = {name: question.start(name, count, len(rows)) for name, rows in tests.items()}
    tallies = {name: Tally() for name in tests}
    engines: dict[str, Engine] = {}
    skipped = np.zeros(count, dtype=bool)
    for chunks in passes:
        begun = [(chunk.engine, answers[chunk.name].begin(chunk.engine)) for chunk in chunks]
        # If test rows keep lists, all pairs of the first blocks are candidates.
        rows = ROWS if question.k else max(chunk.engine.wide_block_rows for chunk in chunks)
        tallied = run_pass(
            train,
            begun,
            threads,
            chosen,
            dense=question.dense,
            rows=rows,
            keep=keep,
            skipped=skipped,
        )
        for chunk, tally in zip(chunks, tallied, strict=True):
            tallies[chunk.name].add(tally)
            engines[chunk.name] = chunk.engine
    return {
        name: answers[name].finish(
            tallies[name].certify(engine.precision, train.width, int(skipped.sum()), engine.device),
            skipped,
        )
        for name, engine in engines.items()
    }


def run_pass(
    train: Embeddings,
    begun: list[tuple[Engine, Partial]],
    threads: int,
    shards: Sequence[int],
    *,
    dense: int = 0,
    rows: int = ROWS,
    keep: Flags | None = None,
    skipped: Flags | None = None,
) -> list[Tally]:
    """Compare training rows with some chunks of test rows, and return the counts for each.

    ``begun`` has each chunk's engine and partial result. ``dense`` is as in
    :class:`~shiftproof.similarity.search.question.Question`; a block has ``rows`` training rows.
    Only rows marked in ``keep`` are compared; unusable rows are marked in ``skipped``.
    """
    # The first rows fill one set of partial results; every thread continues with a fork of it. The
    # result does not depend on the assignment of rows to threads.
    partials = [partial for _, partial in begun]
    forks = [partials]
    waiting: queue.SimpleQueue[list[Partial]] = queue.SimpleQueue()
    waiting.put(partials)

    def fork() -> None:
        held = waiting.get()
        while len(forks) < threads:
            forks.append([partial.fork() for partial in held])
            waiting.put(forks[-1])
        waiting.put(held)

    def work(block: Block, here: slice) -> list[Tally]:
        some = waiting.get()
        try:
            usable = _drop_unkept(block, keep)
            return [
                partial.enter(engine, usable, here)
                for (engine, _), partial in zip(begun, some, strict=True)
            ]
        finally:
            waiting.put(some)

    tallies = [Tally() for _ in begun]
    if not dense:
        fork()
    for block, here, counted in compute_blocks(train, shards, threads, work, rows):
        if skipped is not None:
            skipped[here] = ~block.usable
        for tally, more in zip(tallies, counted, strict=True):
            tally.add(more)
        if len(forks) < threads and here.stop >= dense:
            fork()
    for number, partial in enumerate(partials):
        partial.join([some[number] for some in forks[1:]])
    return tallies


def _drop_unkept(block: Block, keep: Flags | None) -> Block:
    if keep is None:
        return block
    usable = block.usable & keep[block.first : block.first + len(block.values)]
    return dataclasses.replace(block, usable=usable)


def compute_blocks(
    train: Embeddings,
    shards: Sequence[int],
    threads: int,
    work: Callable[[Block, slice], Result],
    rows: int = ROWS,
) -> Iterator[tuple[Block, slice, Result]]:
    """Yield every block of training rows, its slice of all of them, and the result of ``work``, in
    order.

    The next blocks are read while threads work on the last ones.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Block, slice, Future[Result]]] = deque()
        place = 0
        try:
            for block in train.blocks(rows, shards):
                here = slice(place, place + len(block.values))
                place = here.stop
                waiting.append((block, here, pool.submit(work, block, here)))
                if len(waiting) > threads:
                    yield _wait(waiting)
            while waiting:
                yield _wait(waiting)
        finally:
            for _, _, future in waiting:
                future.cancel()


def _wait(waiting: deque[tuple[Block, slice, Future[Result]]]) -> tuple[Block, slice, Result]:
    block, here, future = waiting.popleft()
    return block, here, future.result()


def sample_rows(train: Embeddings, shards: Sequence[int] | None) -> F32:
    """Return some of the first rows, as a sample of the distribution of training rows."""
    for block in train.blocks(2 * ROWS, shards):
        if block.usable.any():
            return block.values[block.usable]
    return np.eye(1, train.width, dtype=np.float32)

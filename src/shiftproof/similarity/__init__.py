"""Measure train-test similarity: is a good score explained by test images like the training images?

All of it works on embeddings: an array, an ``.npy`` file, or a folder of shards
(:func:`open_embeddings`), read in blocks and compared exactly (:func:`nearest`, :func:`top_k`).
"""

from __future__ import annotations

from shiftproof.similarity.approximate import ApproximateTopK, approximate_top_k
from shiftproof.similarity.audit import audit
from shiftproof.similarity.coreset import Coreset, coreset
from shiftproof.similarity.dedup import Deduplicated, deduplicate, deduplicate_in_parts
from shiftproof.similarity.gap import (
    AccuracyBySimilarity,
    SimilarityGap,
    accuracy_by_similarity,
    by_class,
    cumulative,
    gap,
    histogram,
)
from shiftproof.similarity.keeplists import read_datacomp, write_datacomp, write_keys
from shiftproof.similarity.prune import Proof, Pruning, merge_prunings, prove, prune, prune_to
from shiftproof.similarity.questions.nearest import (
    Nearest,
    merge_nearest,
    nearest,
    nearest_to_each,
)
from shiftproof.similarity.questions.top_k import TopK, merge_top_k, top_k, top_k_of_each
from shiftproof.similarity.search.certificate import Certificate
from shiftproof.similarity.sharded import (
    Sharding,
    nearest_in_parts,
    prove_in_parts,
    prune_in_parts,
    top_k_in_parts,
)
from shiftproof.similarity.sources import Embeddings, open_embeddings

__all__ = [
    "AccuracyBySimilarity",
    "ApproximateTopK",
    "Certificate",
    "Coreset",
    "Deduplicated",
    "Embeddings",
    "Nearest",
    "Proof",
    "Pruning",
    "Sharding",
    "SimilarityGap",
    "TopK",
    "accuracy_by_similarity",
    "approximate_top_k",
    "audit",
    "by_class",
    "coreset",
    "cumulative",
    "deduplicate",
    "deduplicate_in_parts",
    "gap",
    "histogram",
    "merge_nearest",
    "merge_prunings",
    "merge_top_k",
    "nearest",
    "nearest_in_parts",
    "nearest_to_each",
    "open_embeddings",
    "prove",
    "prove_in_parts",
    "prune",
    "prune_in_parts",
    "prune_to",
    "read_datacomp",
    "top_k",
    "top_k_in_parts",
    "top_k_of_each",
    "write_datacomp",
    "write_keys",
]

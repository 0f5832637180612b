"""Whole numbers and functions of LLVM's, for the loops that are written in its terms."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def declare(module: Any, signature: Any, name: str) -> Any:
    """Return a function of a module, declare at its first use."""
    there = module.globals.get(name)
    return ir.Function(module, signature, name) if there is None else there

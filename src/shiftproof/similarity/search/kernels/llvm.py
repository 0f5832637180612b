"""Integer types and functions of LLVM, for loops written in LLVM IR."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def declare(module: Any, signature: Any, name: str) -> Any:
    """Return a function of a module, which is declared at its first use."""
    there = module.globals.get(name)
    return ir.Function(module, signature, name) if there is None else there

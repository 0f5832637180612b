"""Compiled inner loops.

One file for each family of corruptions, called like the file that calls it. That file imports it
inside its functions: numba takes half a second to import, and a list of names must not pay for it.
Every function is compiled at its first call, on one thread and without holding the interpreter's
lock, and kept on disk for the next process.

Arrays of images are ``(H, W, C)`` here, with C = 1 for gray, or rows ``(H, N)`` with
N = W * C. No function uses ``fastmath``: what it may reorder differs between processors, and
the pixels must not. Loops are written so that the compiler can see that an index is not
negative (slices instead of offsets) and that four terms are added at a time: then it uses the
vector unit.
"""

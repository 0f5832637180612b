"""Compiled inner loops.

One file for each family of corruptions, with the name of the file that calls it. That file imports it
inside its functions, since importing numba takes half a second, which listing names should not cost.
Every function is compiled at its first call, for one thread and without the interpreter's lock, and
cached on disk for the next process.

Arrays of images are ``(H, W, C)`` here, with C = 1 for gray, or rows ``(H, N)`` with N = W * C. No
function uses ``fastmath``, whose reordering differs between processors, and so the pixels would.
Loops are written so that the compiler sees that an index is not negative (slices instead of offsets)
and that four terms are added at a time; it then uses the vector unit.
"""

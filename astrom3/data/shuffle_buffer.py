"""The order in which objects leave a shuffle buffer, as numbers: it is known before anything is read."""

import numpy as np

from astrom3.kernel import kernel


@kernel
def buffered(keys: np.ndarray, buffer: int, growing: bool = False) -> np.ndarray:
    """Order (n,) in which objects 0 ... n-1 leave a shuffle buffer that they enter in order; keys (n,) uint64.

    growing: the buffer has room for one more object for every four that left it, until it has its full size. The first
    batch of remote data is then read at once, and not after the thousands of objects that a buffer holds.
    """
    n = len(keys)
    order = np.empty(n, np.int64)
    held = np.empty(min(buffer, n), np.int64)
    filled = 0
    out = 0
    for i in range(n):
        room = min(len(held), 1 + out // 4) if growing else len(held)
        if filled < room:
            held[filled] = i
            filled += 1
        else:
            j = keys[i] % np.uint64(filled)
            order[out] = held[j]
            held[j] = i
            out += 1

    while filled:
        j = keys[out] % np.uint64(filled)
        order[out] = held[j]
        filled -= 1
        held[j] = held[filled]
        out += 1

    return order

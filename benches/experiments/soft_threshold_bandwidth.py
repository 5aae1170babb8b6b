"""Ten million elements: how near forward + pullback is to merely moving the same bytes.

Forward reads y and writes f(y); the pullback reads the cotangent and y and writes the gradient: 5 words an element.
A copy reads and writes, 2 words an element, so 5 words are the copy of 2.5 n elements.
"""

from __future__ import annotations

import torch
from measure import interleave, ratio, save

from gradrace.cases import find_case
from gradrace.operators import prepare_case
from gradrace.verify import verify

N = 10_000_000
VARIANTS = ("preallocated", "softshrink", "custom_function", "y_minus_clamp", "nested_where", "sign_relu", "compiled")


def right(variant):
    found = find_case(f"soft_threshold/{variant}/vjp/n{N}/float64/cpu")
    check = verify(found)
    assert check.ok, check.message
    return prepare_case(found).thunk


def main():
    source = torch.randn(5 * N // 2, dtype=torch.float64)
    target = torch.empty_like(source)
    thunks = {variant: right(variant) for variant in VARIANTS}
    samples = interleave({**thunks, "copy_": lambda: target.copy_(source), "clone": source.clone}, rounds=25)
    words = {name: 5 * float((samples[name] / samples["copy_"]).mean()) for name in VARIANTS}
    save(
        "soft_threshold_bandwidth",
        [
            ratio("preallocated / copy_ between warm buffers", samples, "preallocated", "copy_"),
            *(ratio(f"{name} / clone", samples, name, "clone") for name in VARIANTS[1:]),
            ratio("clone / copy_", samples, "clone", "copy_"),
        ],
        elements=N,
        words_an_element_that_copy_would_move_meanwhile={name: round(value, 1) for name, value in words.items()},
    )


if __name__ == "__main__":
    main()

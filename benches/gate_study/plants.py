"""Changes of the study's kernels, as somebody might make them: each a replacement of source text."""

from pathlib import Path

KERNELS = Path(__file__).with_name("kernels.py")

SLOW = {
    "one more operation among 32": ("return _multiplied(x, 32)", "return _multiplied(x, 33)"),
    "one more operation among 16": ("return _multiplied(x, 16)", "return _multiplied(x, 17)"),
    "one more operation among 8": (
        "def chain_8(x):\n    return _multiplied(x, 8)",
        "def chain_8(x):\n    return _multiplied(x, 9)",
    ),
    "one more operation among 4": ("return _multiplied(x, 4)", "return _multiplied(x, 5)"),
    "a clone in backward": ("return 3 * x * x * cotangent", "return (3 * x * x * cotangent).clone()"),
    "a repeated factorisation": (
        "    return b @ solution + 2 * factor.",
        "    return b @ solution + 2 * torch.linalg.cholesky(matrix).",
    ),
    "an upcast": ("    return (y * y).sum()", "    return (y.double() * y).sum().float()"),
    "one more operation, memory-bound": (
        "def wide_8(x):\n    return _multiplied(x, 8)",
        "def wide_8(x):\n    return _multiplied(x, 9)",
    ),
}
"""Slower, by name: what stands in the base, and what stands in the head."""

WRONG = {
    "a wrong gradient at equal speed": ("return 3 * x * x * cotangent", "return 2 * x * x * cotangent"),
    "twice the saved bytes in equal time": (
        "ctx.save_for_backward(x, square)",
        "ctx.save_for_backward(x, square, quartic)",
    ),
    "a detached primal": ("    return b @ solution +", "    return b.detach() @ solution +"),
    "a kink moved": ("return torch.relu(x).sum()", "return torch.clamp(x, min=0).sum()"),
}
"""No slower, and wrong all the same."""

SPOILT = {
    "a wrong gradient at equal speed": "study_cubic/by_hand/value_and_gradient/n5000/float64/cpu",
    "twice the saved bytes in equal time": "fault_quartic/keeps_the_square/value_and_gradient/n5000/float64/cpu",
    "a detached primal": "study_solve/factored/value_and_gradient/d60/float64/cpu",
    "a kink moved": "study_hinge/rectified/value_and_gradient/n1000/float64/cpu",
}
"""The kernel that each of these spoils."""

PLANTED = {
    "study_chain/chain_32/": "one more operation among 32",
    "study_chain/chain_16/": "one more operation among 16",
    "study_chain/chain_8/": "one more operation among 8",
    "study_chain/chain_4/": "one more operation among 4",
    "study_cubic/by_hand/value_and_gradient/": "a clone in backward",
    "study_solve/": "a repeated factorisation",
    "study_smooth/": "an upcast",
    "study_wide/": "one more operation, memory-bound",
}
"""Which change a kernel is slowed down by, by the beginning of its id."""


def changed(*changes: tuple[str, str]) -> str:
    """The source of the kernels with these changes. Raises ValueError where the base has no such text."""
    text = KERNELS.read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in {KERNELS.name}, not once")
        text = text.replace(old, new)
    return text


def plant_of(kernel: str) -> str | None:
    """The change that slows a kernel down; None for one that all of them leave alone."""
    return next((plant for start, plant in PLANTED.items() if kernel.startswith(start)), None)

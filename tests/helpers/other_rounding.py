"""``pytest -p helpers.other_rounding``: sums of products as another processor might round them.

Libraries add in an order that depends on the processor, the number of threads and the batch, so two
machines differ in the last places. Here every float32 result of the operators below that is not
exact is the neighbor on the other side of the true value, where the batch is odd. What is exact on
one machine is so on all and stays as it is.

It works in this process only, so tests that compare it with another process, or compile, are left
out by the caller.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_SUMS = {
    getattr(torch.ops.aten, name)
    for name in (
        "convolution",
        "convolution_backward",
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "sum",
        "mean",
        "linalg_vector_norm",
        "_softmax",
    )
}


def _other_neighbor(found: torch.Tensor, true: torch.Tensor) -> None:
    if found.dtype == torch.float32 and (found.ndim == 0 or found.shape[0] % 2):
        beyond = torch.where(true > found, torch.inf, -torch.inf).to(found.dtype)
        found.copy_(torch.where(true == found, found, torch.nextafter(found, beyond)))


class _OtherRounding(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        found = function(*arguments, **options)
        results = [
            x
            for x in (found if isinstance(found, tuple) else (found,))
            if isinstance(x, torch.Tensor)
        ]
        if (
            function.overloadpacket in _SUMS
            and "out" not in options
            and any(x.dtype == torch.float32 for x in results)
        ):
            precise = tree_map_only(
                torch.Tensor,
                lambda x: x.double() if x.dtype == torch.float32 else x,
                (arguments, {key: value for key, value in options.items() if key != "dtype"}),
            )
            true = function(*precise[0], **precise[1])
            for one, exact in zip(
                found if isinstance(found, tuple) else (found,),
                true if isinstance(true, tuple) else (true,),
                strict=True,
            ):
                if isinstance(one, torch.Tensor):
                    _other_neighbor(one, exact)
        return found


def pytest_configure(config) -> None:
    _OtherRounding().__enter__()

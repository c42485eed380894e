"""Numbers kept in 8 or 16 bits.

value = offset + scale * code, with a scale and an offset for each group of them.
"""

import torch
from torch import Tensor, nn

CODES = {8: torch.int8, 16: torch.int16, 32: torch.float32}
"""Bits -> type of a code; with 32 the codes are the values themselves, which can be trained."""


class QuantizedTensor(nn.Module):
    """A tensor of ``shape`` whose groups are the slices along ``dim``.

    The scales have size one along it.
    """

    # broadcast against the codes; not there with 32 bits
    scale: Tensor
    offset: Tensor

    def __init__(self, shape: tuple[int, ...], bits: int, dim: int) -> None:
        super().__init__()
        self.bits, self.dim = bits, dim
        self.codes = nn.Parameter(torch.zeros(shape, dtype=CODES[bits]), requires_grad=bits == 32)
        if bits != 32:
            groups = [1 if index == dim % len(shape) else size for index, size in enumerate(shape)]
            self.register_buffer("scale", torch.ones(groups))
            self.register_buffer("offset", torch.zeros(groups))

    @classmethod
    @torch.no_grad()
    def of(cls, value: Tensor, bits: int, dim: int) -> "QuantizedTensor":
        """The nearest values with ``bits``, between the least and the largest of each group."""
        made = cls(tuple(value.shape), bits, dim).to(value.device)
        if bits == 32:
            made.codes.copy_(value)
        elif value.shape[dim]:
            low, high = value.amin(dim, keepdim=True), value.amax(dim, keepdim=True)
            steps = 2 ** (bits - 1) - 1  # on either side of the middle
            made.offset.copy_((low + high) / 2)
            made.scale.copy_(
                ((high - low) / (2 * steps)).clamp_min(torch.finfo(torch.float32).tiny)
            )
            made.codes.copy_(((value - made.offset) / made.scale).round().clamp(-steps, steps))
        return made

    def forward(self) -> Tensor:
        """The values, float32."""
        return (
            self.codes
            if self.bits == 32
            else torch.addcmul(self.offset, self.codes.float(), self.scale)
        )

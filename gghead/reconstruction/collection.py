"""Every head of a capture set as latents, several times from different views.

What a prior over heads learns from.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from gghead.data.captures import FRONT, Captures
from gghead.latent import Latent
from gghead.models.reconstructor import Reconstructor
from gghead.reconstruction.config import CollectionConfig
from gghead.reconstruction.inputs import from_captures
from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import file_part
from gghead.torch_utils.rng import derive_seed


@torch.no_grad()
def encode_heads(
    model: Reconstructor, captures: Captures, subjects: Sequence[str], config: CollectionConfig
) -> Iterator[Latent]:
    """Yield latents [1] with ``target``, ``subject`` and the views' names in ``info``.

    The target is unique: ``<subject>-<expression>-<draw>``, with an m where mirrored.

    ``captures`` have the size that the network works at. Raises ``UserError`` for a head with fewer
    cameras in front (yaw below 80 degrees) than the largest number of views.
    """
    for subject in subjects:
        for expression in captures.expressions_of(subject):
            every = from_captures(captures, subject, expression, device=model.device)
            front = (every.cameras.angles()[0].abs() < FRONT).nonzero()[:, 0].tolist()
            if len(front) < max(config.views):
                raise UserError(
                    f"`views` asks for {max(config.views)}, but subject {subject} has {len(front)}"
                    " cameras in front; ask for fewer."
                )
            for mirrored in (False, True)[: 1 + config.mirror]:
                for index in range(config.draws):
                    draw = np.random.RandomState(
                        derive_seed(config.seed, "collection", subject, expression, mirrored, index)
                        % 2**32
                    )
                    count = int(draw.choice(config.views))
                    views = every.pick(
                        [
                            every.names[front[i]]
                            for i in sorted(draw.permutation(len(front))[:count])
                        ]
                    )
                    views = views.mirror() if mirrored else views
                    latent = model.encode(views.rgb[None], views.cameras.reshape(1, count))
                    yield Latent(
                        latent.ws,
                        latent.residual,
                        info={
                            "target": file_part(f"{subject}-{expression}-{index}{'m' * mirrored}"),
                            "stage": "encoder",
                            "subject": subject,
                            "views": list(views.names),
                        },
                    )

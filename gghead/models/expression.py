"""The learned way of changing expressions.

A neutral head's latent and coefficients in, the expression's latent out.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from gghead.latent import Latent, fingerprints
from gghead.models.expression_config import ExpressionConfig
from gghead.models.generator import Generator
from gghead.networks.expression_transformer import ExpressionTransformer
from gghead.template.sliders import Sliders
from gghead.torch_utils.errors import UserError


class ExpressionModel(nn.Module):
    """``dtype`` is the precision of attention.

    The generator is not part of it; calls are given it and check it.
    """

    coefficient_min: Tensor  # [K]
    coefficient_max: Tensor

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        if not config.coefficient_names:
            raise UserError("An expression transformer needs the names of its coefficients.")
        self.config, self.dtype = config, torch.float32
        self.network = ExpressionTransformer(
            config.channels,
            config.side,
            len(config.coefficient_names),
            config.num_ws * config.w_dim,
            config.width,
            config.layers,
            config.heads,
            config.mlp_ratio,
            config.tokens,
            config.mixing,
            config.dropout,
            config.maps,
        )
        # of the training data; zero is always inside
        for name in ("coefficient_min", "coefficient_max"):
            self.register_buffer(name, torch.zeros(len(config.coefficient_names)))
        self._checked: Generator | None = None

    @property
    def device(self) -> torch.device:
        return self.coefficient_min.device

    @property
    def sliders(self) -> Sliders:
        """What it can be driven by."""
        return Sliders(
            tuple(self.config.coefficient_names),
            self.config.expression_model,
            "this expression transformer",
        )

    def forward(
        self, latent: Latent, table: Tensor, model: Generator, clamp: bool = True
    ) -> Latent:
        """``latent`` [1 or T] of ``model`` and ``table`` [T, K] -> latents [T].

        The table is in the order of ``sliders``.

        Coefficients outside the range of the training data are brought back to it unless ``clamp``
        is off. A zero row gives its latent back.

        Raises ``UserError`` for latents of another network, ``ValueError`` for batches that do not
        fit.
        """
        self.check(model)
        count = len(table)
        if len(latent) not in (1, count):
            raise ValueError(
                f"Weights of {count} frames move one latent or {count} latents, not {len(latent)}."
            )
        if table.shape[1] != len(self.config.coefficient_names):
            raise ValueError(
                f"This expression transformer takes {len(self.config.coefficient_names)}"
                f" coefficients, but the table has {table.shape[1]}."
            )
        table = table.to(self.device, torch.float32)
        if clamp:
            table = table.clamp(self.coefficient_min, self.coefficient_max)
        latent = latent.map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))
        change, styles = self.changes(latent.features(model), table)
        residual = change if latent.residual is None else latent.residual + change
        return replace(
            latent, ws=latent.ws + styles.unflatten(1, latent.ws.shape[1:]), residual=residual
        )

    def changes(self, z: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Z [B, C, R, R] and coefficients [B, K] -> what is added to Z and to all styles [B, S].

        Both are float32.
        """
        with torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        ):
            change, styles = self.network(z.float(), table)
        return change.float(), styles.float()

    def check(self, model: Generator) -> None:
        """Raise ``UserError`` if ``model`` is not the generator that this was trained for."""
        if self._checked is model:
            return
        if fingerprints(model)["network"] != self.config.network:
            raise UserError(
                "This expression transformer was trained for another network; name the"
                " reconstructor or generator that it was trained with, or train one with"
                " scripts/train_expression.py."
            )
        # A plain attribute: as a submodule the generator would become part of the checkpoint.
        object.__setattr__(self, "_checked", model)

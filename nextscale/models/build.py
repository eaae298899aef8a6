"""The network of a configuration: next-scale, or the next-token baseline."""

from nextscale.config.model import TokenizerConfig, TransformerConfig
from nextscale.models.ar import AR
from nextscale.models.var import VAR

Model = VAR | AR


def build_model(config: TransformerConfig, tokenizer: TokenizerConfig) -> Model:
    """A transformer for a tokenizer's tokens, freshly initialised unless on the meta device.

    Raises:
        UsageError: if single tokens are to be predicted, but the tokenizer has several scales.
    """
    kind = VAR if config.order == "scales" else AR
    return kind(config, tokenizer.scales, tokenizer.codes, tokenizer.latent)

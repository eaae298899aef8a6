"""What a transformer is conditioned on: the start tokens and the AdaLN vector (VAR Sec. 3.2).

Labels today; another condition needs the same two outputs.
"""

import torch
from torch import Tensor, nn


class ClassCondition(nn.Module):
    """An embedding a class and one more, at index `classes`, that means no class.

    With `classes` = 0 only "none" is left: the unconditional model.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        # Its own normal_ would import torch._dynamo on the meta device, a second at every load.
        weight = torch.empty(classes + 1, width)
        self.embedding = nn.Embedding.from_pretrained(weight, freeze=False)

    def forward(self, labels: Tensor) -> Tensor:
        """Labels int64 (B,) to vectors (B, D): start of the sequence and input of every AdaLN."""
        return self.embedding(labels)

    def none_like(self, labels: Tensor) -> Tensor:
        """Labels (B,) that all mean no class."""
        return labels.new_full(labels.shape, self.classes)

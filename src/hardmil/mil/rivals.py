"""The poolings of methods that are compared with ours: DSMIL, TransMIL, CLAM, DTFD-MIL."""

from hardmil.config.model import PoolingConfig
from hardmil.mil.clam import ClamPooling
from hardmil.mil.dsmil import DualStreamPooling
from hardmil.mil.dtfd import DoubleTierPooling
from hardmil.mil.transmil import TransformerPooling

RivalPooling = DualStreamPooling | TransformerPooling | ClamPooling | DoubleTierPooling


def rival_pooling(config: PoolingConfig, *, embedding_dim: int) -> RivalPooling | None:
    """The pooling of this kind; None for those that are not a method of their own."""
    match config.kind:
        case "dsmil":
            return DualStreamPooling(
                embedding_dim=embedding_dim, query_dim=config.attention_dim or embedding_dim
            )
        case "transmil":
            return TransformerPooling(embedding_dim=embedding_dim)
        case "clam-sb" | "clam-mb":
            return ClamPooling(config, embedding_dim=embedding_dim)
        case "dtfd":
            return DoubleTierPooling(config, embedding_dim=embedding_dim)
        case _:
            return None

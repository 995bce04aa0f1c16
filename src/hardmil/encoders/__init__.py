"""Frozen networks from a patch to its embedding, one file for each kind.

A kind is imported when it is opened.
"""

from hardmil.encoders.encoder import PatchEncoder as PatchEncoder
from hardmil.encoders.open_encoder import open_encoder as open_encoder

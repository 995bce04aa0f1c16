"""A slide file: readers, resolution and tissue.

Also where the patches of a slide are, and their pixels.
"""

from hardmil.slides.grid import PatchGrid as PatchGrid
from hardmil.slides.grid import place_patches as place_patches
from hardmil.slides.level_source import Level as Level
from hardmil.slides.reader import open_slide as open_slide
from hardmil.slides.reading import read_patches as read_patches
from hardmil.slides.slide import Slide as Slide
from hardmil.slides.slide import picture_of_bounds as picture_of_bounds
from hardmil.slides.tissue import TissueMask as TissueMask
from hardmil.slides.tissue import segment_tissue as segment_tissue

"""Synthetic slides whose lesions and look-alikes are known.

For demos, tests and benchmarks.
"""

from hardmil.phantom.cohort import write_cohort as write_cohort
from hardmil.phantom.slide import Phantom as Phantom
from hardmil.phantom.slide import draw_phantom as draw_phantom
from hardmil.phantom.slide import write_phantom as write_phantom

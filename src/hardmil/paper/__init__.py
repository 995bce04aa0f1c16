"""The two data sets of Li et al. 2019, their protocol and their printed numbers.

Nothing else in the package depends on them.
"""

from hardmil.paper.datasets import published_config as published_config
from hardmil.paper.datasets import read_published as read_published
from hardmil.paper.reproduction import Reproduction as Reproduction
from hardmil.paper.reproduction import reproduction_config as reproduction_config
from hardmil.paper.reproduction import reproduction_evaluation as reproduction_evaluation
from hardmil.paper.tables import PAPER as PAPER
from hardmil.paper.tables import Published as Published

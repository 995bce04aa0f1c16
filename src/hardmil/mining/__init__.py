"""False-positive bags -> hard instances -> hard bags."""

from hardmil.mining.hard_bags import clustered_bags as clustered_bags
from hardmil.mining.hard_bags import random_bags as random_bags
from hardmil.mining.hard_bags import single_bag as single_bag
from hardmil.mining.hard_instances import hard_instances as hard_instances

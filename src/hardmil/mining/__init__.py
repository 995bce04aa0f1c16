"""False-positive bags to hard instances to hard bags, distractors or weights.

Also verdicts of a person on patches, and the paper's procedure: train, mine, retrain.
"""

from hardmil.mining.hard_bags import HardBags as HardBags
from hardmil.mining.hard_bags import clustered_bags as clustered_bags
from hardmil.mining.hard_bags import random_bags as random_bags
from hardmil.mining.hard_bags import single_bag as single_bag
from hardmil.mining.hard_instances import HardInstance as HardInstance
from hardmil.mining.hard_instances import false_positive_bags as false_positive_bags
from hardmil.mining.hard_instances import hard_instances as hard_instances
from hardmil.mining.hard_instances import mine_instances as mine_instances
from hardmil.mining.injection import Distractors as Distractors
from hardmil.mining.procedure import Mined as Mined
from hardmil.mining.procedure import train_and_mine as train_and_mine
from hardmil.mining.verdicts import read_verdicts as read_verdicts

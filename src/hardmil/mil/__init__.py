"""Bags to bag score, attention and instance logits: poolings, networks, losses, training.

Also operating point, calibration and diagnoses of attention.
"""

from hardmil.mil.bag_score import BagScore as BagScore
from hardmil.mil.calibration import Calibration as Calibration
from hardmil.mil.calibration import fit_calibration as fit_calibration
from hardmil.mil.diagnosis import Diagnosis as Diagnosis
from hardmil.mil.diagnosis import diagnose as diagnose
from hardmil.mil.inference import embed_instances as embed_instances
from hardmil.mil.inference import score_bags as score_bags
from hardmil.mil.network import BagClassifier as BagClassifier
from hardmil.mil.operating import OperatingPoint as OperatingPoint
from hardmil.mil.operating import set_operating_point as set_operating_point
from hardmil.mil.training import TrainingExtras as TrainingExtras
from hardmil.mil.training import fit as fit
from hardmil.mil.weights import load_network as load_network
from hardmil.mil.weights import save_network as save_network

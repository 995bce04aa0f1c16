"""A trained model as a folder: train it, load it, predict slides and cases with it.

Also the hard negatives that fool it.
"""

from hardmil.bundles.bundle import Bundle as Bundle
from hardmil.bundles.bundle import Card as Card
from hardmil.bundles.bundle import load_bundle as load_bundle
from hardmil.bundles.bundle import read_card as read_card
from hardmil.bundles.bundle import save_bundle as save_bundle
from hardmil.bundles.bundle_training import TrainedBundle as TrainedBundle
from hardmil.bundles.bundle_training import train_bundle as train_bundle
from hardmil.bundles.mining import HardNegatives as HardNegatives
from hardmil.bundles.mining import mine as mine
from hardmil.bundles.prediction import Predictions as Predictions
from hardmil.bundles.prediction import predict as predict
from hardmil.bundles.slide_files import HeatmapOptions as HeatmapOptions

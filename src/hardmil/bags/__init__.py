"""A bag, its file, the table of slides, and folds by case.

Also feature files of TRIDENT, CLAM and STAMP, and what is known about how they were made.
"""

from hardmil.bags.bag import Bag as Bag
from hardmil.bags.bag_file import read_bag as read_bag
from hardmil.bags.bag_file import write_bag as write_bag
from hardmil.bags.feature_folder import read_feature_folder as read_feature_folder
from hardmil.bags.feature_folder import read_features as read_features
from hardmil.bags.folds import Fold as Fold
from hardmil.bags.folds import check_classes as check_classes
from hardmil.bags.folds import check_folds as check_folds
from hardmil.bags.folds import inner_folds as inner_folds
from hardmil.bags.folds import repeated_folds as repeated_folds
from hardmil.bags.provenance import Provenance as Provenance
from hardmil.bags.slide_table import SlideRow as SlideRow
from hardmil.bags.slide_table import SlideTable as SlideTable
from hardmil.bags.slide_table import read_slide_table as read_slide_table
from hardmil.bags.split_files import read_splits as read_splits

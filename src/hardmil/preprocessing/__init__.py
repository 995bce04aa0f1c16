"""From the table of slides to patch coordinates to bags, slide by slide.

Also the folder of a study.
"""

from hardmil.preprocessing.instances import encode_slide as encode_slide
from hardmil.preprocessing.patch_coords import patch_slide as patch_slide
from hardmil.preprocessing.process_slides import ProcessedSlides as ProcessedSlides
from hardmil.preprocessing.process_slides import RunOptions as RunOptions
from hardmil.preprocessing.study_encoding import encode_study as encode_study
from hardmil.preprocessing.study_folder import Study as Study
from hardmil.preprocessing.study_folder import StudyBags as StudyBags
from hardmil.preprocessing.study_folder import create_study as create_study
from hardmil.preprocessing.study_folder import open_study as open_study
from hardmil.preprocessing.study_folder import read_bags as read_bags
from hardmil.preprocessing.study_patching import patch_study as patch_study

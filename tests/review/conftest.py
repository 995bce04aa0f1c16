from tests.support.review_server import evaluated_review as evaluated_review
from tests.support.review_server import review_folder as review_folder

from tests.support.class_reviews import class_review_folder as class_review_folder
from tests.support.class_reviews import evaluated_class_review as evaluated_class_review
from tests.support.class_reviews import evaluated_multi_review as evaluated_multi_review
from tests.support.class_reviews import multi_review_folder as multi_review_folder
from tests.support.review_server import browser as browser
from tests.support.review_server import evaluated_review as evaluated_review
from tests.support.review_server import review_folder as review_folder
from tests.support.review_server import workspace as workspace

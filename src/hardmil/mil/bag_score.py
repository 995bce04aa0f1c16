"""What a trained network says about one bag."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hardmil.errors import BagError


@dataclass(frozen=True, eq=False)
class BagScore:
    """The output of a model for one bag.

    `contribution` is what each instance adds to the logit of the bag, negative for the negative class: the
    logit is their sum plus `bias`. None for poolings whose logit is not such a sum.

    With more than two classes, `class_scores` are the scores of all classes, which sum to 1, and `branches`
    the output of each branch, whose score is above 0.5 where its answer is yes. The score is then that of the
    class with the highest one, and attention, logits and contributions are those of its branch. In a
    multi-label study each class has a score between 0 and 1 of its own.
    """

    bag_score: float
    attention: Float[np.ndarray, " instance"]
    instance_logit: Float[np.ndarray, " instance"]
    contribution: Float[np.ndarray, " instance"] | None = None
    bias: float = 0.0
    class_scores: Float[np.ndarray, " class"] | None = None
    branches: "tuple[BagScore, ...]" = ()

    def check(self, slide_id: str) -> None:
        """Check that the score, the attention and the instance logits are numbers.

        Raises:
            BagError: If one is NaN or infinite; the slide is named.
        """
        arrays = {"score": np.array([self.bag_score]), "attention": self.attention}
        for what, values in (arrays | {"instance logits": self.instance_logit}).items():
            broken = int(np.sum(~np.isfinite(values)))
            if broken:
                raise BagError(
                    f"slide {slide_id}: {broken} of {len(values)} values of the {what} are NaN or infinite; "
                    "expected numbers; training probably diverged: lower training.lr and train again. If "
                    "other slides have numbers, check how the features of this one were made"
                )

"""The verdicts that can be given on a patch: their keys, words and colours, by the classes of the study."""

from dataclasses import dataclass

from hardmil.config.task import NONE, TaskConfig
from hardmil.errors import ConfigError
from hardmil.mining.verdict_store import WITHDRAWN, Verdict
from hardmil.preprocessing.study_folder import Study

N_TONES = 6
"""Colours of classes; further classes begin again with the first."""
ARTEFACT_KEY, NONE_KEY, UNSURE_KEY = "a", "o", "0"


@dataclass(frozen=True)
class Answer:
    """A verdict that the pages offer.

    `word` is how it is stored and written to tables, `title` how it is shown, `tone` the name of its colour.
    `key` is empty where no digit is left. `kind` and `class_name` are those of `NewVerdict`.
    """

    key: str
    word: str
    title: str
    tone: str
    kind: Verdict
    class_name: str = ""


TWO_CLASS_ANSWERS = (
    Answer("1", "normal", "normal", "normal", "normal"),
    Answer("2", "lesion", "lesion", "lesion", "lesion"),
    Answer("3", "artefact", "artefact", "artefact", "artefact"),
    Answer(UNSURE_KEY, "unsure", "unsure", "unsure", "unsure"),
)

TWO_CLASS_WORDS = ("lesion", "normal", "artefact", "unsure")


def answers_of(task: TaskConfig) -> tuple[Answer, ...]:
    """The verdicts in the order of the buttons.

    With more than two classes, the classes in their order, with the digits from 1 as keys; without a negative
    class, "none of these"; artefact and unsure.
    """
    if task.is_binary:
        return TWO_CLASS_ANSWERS
    classes = [_class_answer(label, task=task) for label in range(task.n_classes)]
    none = [] if task.negative_class is not None else [_answer(NONE_KEY, "normal", title="none of these")]
    others = (_answer(ARTEFACT_KEY, "artefact"), _answer(UNSURE_KEY, "unsure"))
    return (*classes, *none, *others)


def words_of(task: TaskConfig) -> tuple[str, ...]:
    """The words of the verdicts in the order of tables."""
    return TWO_CLASS_WORDS if task.is_binary else tuple(one.word for one in answers_of(task))


def _class_answer(label: int, *, task: TaskConfig) -> Answer:
    name, key = task.names[label], str(label + 1) if label < 9 else ""
    if label == task.negative_class:
        return Answer(key, name, name, "normal", "normal", name)
    number = task.branch_labels.index(label) % N_TONES
    return Answer(key, name, name, f"lesion-{number + 1}", "lesion", name)


def _answer(key: str, kind: Verdict, *, title: str = "") -> Answer:
    return Answer(key, kind, title or kind, kind, kind)


def find_answer(text: str, *, task: TaskConfig, label: int) -> Answer | None:
    """The verdict that a word of a file means on a slide of this label; None if there is none.

    With more than two classes, lesion is the class of the slide, unless that is negative, and normal is the
    negative class. In a multi-label study, lesion is only known on slides of one class, and none is normal.
    """
    known = {one.word.lower(): one for one in answers_of(task)}
    word = text.lower()
    word = word if word in known else word.replace("artifact", "artefact")
    if word not in known and not task.is_binary and label >= 0:
        negative, only = task.negative_class, task.only_class(label)
        if word == "normal" and negative is not None:
            return known[task.names[negative].lower()]
        if word == "lesion" and only is not None:
            return known[task.names[only].lower()]
        if word == NONE and task.multi_label:
            return known["normal"]
    return known.get(word)


def check_answers(study: Study) -> None:
    """Check that each verdict of a review has a name of its own.

    Raises:
        ConfigError: If a class has the name of another verdict.
    """
    task = study.config.task
    reserved = {"artefact", "artifact", "unsure", WITHDRAWN} | (
        {"normal"} if task.negative_class is None else set()
    )
    clashing = [name for name in task.names if name.lower() in reserved]
    if clashing:
        hint = ""
        if clashing[0].lower() == "normal":
            hint = (
                ", or remove it: a slide without any class needs none"
                if task.multi_label
                else ", or name it as `negative`"
            )
        raise ConfigError(
            f"{study.folder}: a class is named {clashing[0]}, and so is a verdict that fits no class; "
            f"expected another name; rename the class in slides.csv and study.yaml{hint}"
        )

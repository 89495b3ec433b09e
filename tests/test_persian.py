"""The Persian corpus: the same everywhere, written as Persian is, readable back, and with a floor that counting does not reach."""

import hashlib
import itertools
import re
import unicodedata

import numpy as np
import pytest

from elman.text import persian_words as words
from elman.text.corpora import find_corpus
from elman.text.ngrams import baselines
from elman.text.persian import Story, persian_stories, persian_text, read_story
from elman.text.persian_words import Verb, own, possessed, some, visible

STORIES = list(itertools.islice(persian_stories(), 600))
TEXT = "".join(story.text for story in STORIES)


def test_the_corpus_is_the_same_everywhere() -> None:
    text = "".join(persian_text())
    assert 1_000_000 <= len(text) < 1_002_000
    assert text.startswith(TEXT)
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "3aa6ab558b4a08ea679775b034fae25c4c27c219b469b700003f268a9e298352"
    )


def test_another_seed_tells_other_stories() -> None:
    others = {story.text for story in itertools.islice(persian_stories(seed=1), 600)}
    assert len(others) == len({story.text for story in STORIES}) == 600
    assert not others & {story.text for story in STORIES}


def test_it_is_a_corpus_by_name(own_cache: object) -> None:
    assert find_corpus("persian", download=False).read_text(encoding="utf-8").startswith(TEXT)


@pytest.mark.parametrize("story", STORIES[:200:10], ids=range(20))
def test_every_story_is_read_back_with_the_weights_it_was_told_with(story: Story) -> None:
    reading = read_story(story.text)
    assert reading.characters == len(story.text)
    assert reading.nats == pytest.approx(story.nats, rel=1e-12)


def test_all_stories_can_be_read_back() -> None:
    assert [story for story in STORIES if read_story(story.text).characters != len(story.text)] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("رفتند", "رفتیم"),
        ("۴ تا ماند", "۵ تا ماند"),
        ("به قزوین برگشت", "به شیراز برگشت"),
        ("فروردین", "فروردن"),
        ("می‌", "می "),
    ],
)
def test_a_story_with_a_slip_is_read_as_far_as_the_slip(right: str, wrong: str) -> None:
    story = next(story.text for story in STORIES if right in story.text)
    place = story.index(right)
    slip = next(index for index, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b)
    reading = read_story(story.replace(right, wrong, 1))
    assert reading.characters == place + slip


def test_letters_are_persian_ones() -> None:
    letters = set("ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهیآأئ")
    marks = set("\u200c\u0654«»؛،؟.: \n۰۱۲۳۴۵۶۷۸۹")
    assert set(TEXT) <= letters | marks
    assert marks <= set(TEXT)
    assert unicodedata.normalize("NFC", TEXT) == TEXT


def test_joiners_and_marks_stand_where_they_belong() -> None:
    assert re.findall(r"\u200c(?![آ-ی])|(?<![آ-ی])\u200c", TEXT) == []
    assert re.findall(r" [،؛:.؟»]|« |  | \n", TEXT) == []
    assert re.findall(r"[،؛:](?! )|[.؟](?![ \n»])", TEXT) == []
    assert re.findall(r"(?<![آ-ی\u200c])ن?می [آ-ی]| ها(?![آ-ی])", TEXT) == []  # prefixes and plurals are bound
    assert TEXT.count("«") == TEXT.count("»") == len(re.findall(r"«[^«»\n]+»", TEXT))


def test_what_is_left_of_the_fruit_is_the_difference() -> None:
    figures = re.findall(r"([۰-۹]+) \w+ چید\w*؛ ([۰-۹]+) تا را به \S+ داد\w* و ([۰-۹]+) تا", TEXT)
    assert len(figures) > 100
    assert [found for found in figures if int(found[0]) - int(found[1]) != int(found[2])] == []


def test_verbs_agree_with_the_hero_from_the_first_sentence_to_the_last() -> None:
    for story in STORIES:
        began = re.search(r"(?:^|، )(من|ما)[ ،]", story.text.split("\n")[1])
        if began:
            ours, theirs = ("م", "یم") if began[1] == "من" else ("یم", "م")
            assert f"وقتی رسید{ours}، " in story.text
            assert not re.search(rf"(?<!می‌)(?:رفت|خرید|برگشت|رسید){theirs}(?![آ-ی])", re.sub("«[^»]*»", "", story.text))


def test_the_floor_lies_below_what_counting_reaches() -> None:
    """Over the held-out tenth of the text: the entropy of the choices, and n-grams that have seen the rest."""
    cut = 540
    symbols = sorted(set(TEXT))
    codes = np.searchsorted(np.array(symbols), np.array(list(TEXT)))
    train = sum(len(story.text) for story in STORIES[:cut])
    counted = baselines(codes[:train], codes[train:], len(symbols))
    floor = sum(story.nats for story in STORIES[cut:]) / (len(TEXT) - train)
    assert 0.1 < floor < 0.2
    assert floor < 0.7 * counted["ngram"]


def test_words_change_as_the_grammar_books_say() -> None:
    assert [visible(own(word, 2)) for word in ("کتاب", "خانه", "عمو", "دایی")] == ["کتابش", "خانه‌اش", "عمویش", "دایی‌اش"]
    assert [visible(own(word, 3)) for word in ("کتاب", "خانه", "عمو")] == ["کتابمان", "خانه‌مان", "عمویمان"]
    assert [visible(some(word)) for word in ("کتاب", "خانه", "آهو", "ماهی", "کلاه")] == [
        "کتابی",
        "خانه‌ای",
        "آهویی",
        "ماهی‌ای",
        "کلاهی",
    ]
    assert [possessed(word) for word in ("کتاب", "خانه", "پتو", "صندلی", "کلاه")] == [
        "کتاب",
        "خانه\u0654",
        "پتوی",
        "صندلی",
        "کلاه",
    ]
    come = Verb("آمد", "آی")
    assert [visible(form) for form in (come.past(5), come.used(0), come.now(1), come.wish(3), come.will(2))] == [
        "آمدند",
        "می‌آمدم",
        "می‌آیی",
        "بیاییم",
        "خواهد آمد",
    ]
    assert visible(words.RETURN.used(2)) == "برمی‌گشت"


def test_no_list_has_a_word_twice() -> None:
    for name, value in vars(words).items():
        if name.isupper() and isinstance(value, tuple) and name != "FALLING":
            assert len(set(value)) == len(value), name

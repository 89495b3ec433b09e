"""The grammar of the Persian stories: how one is told to a voice, which says what is fixed and makes every choice.

Every choice is seen in the text at once: its options begin differently, or the longest that stands there is meant. So a story can
be read back, choice by choice (`persian.read_story`).
"""

import abc
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from elman.text import persian_words as words
from elman.text.persian_words import PAST, digits, own, possessed, some, without


class Voice(abc.ABC):
    """What a story is told to: fixed words and choices, one after the other."""

    @abc.abstractmethod
    def say(self, words: str) -> None:
        """Words that can only be these."""

    @abc.abstractmethod
    def choose(self, options: Sequence[str], weights: Sequence[float]) -> int:
        """One of several ways to go on, each likely by its weight: its number."""

    def pick(self, options: Sequence[str]) -> str:
        """A word of a list, the first ones likelier than the last."""
        return options[self.choose(options, _falling(len(options)))]

    def even(self, options: Sequence[str]) -> int:
        """The number of an option, all of them equally likely."""
        return self.choose(options, _even(len(options)))

    def number(self, first: int, last: int) -> int:
        """A whole number, all of them equally likely."""
        return first + self.even([digits(number) for number in range(first, last + 1)])

    def maybe(self, words: str) -> bool:
        """Words that are said half of the time."""
        return self.choose(("", words), _even(2)) == 1


@functools.cache
def _falling(count: int) -> tuple[float, ...]:
    return tuple(1 / (place + 5) for place in range(count))


@functools.cache
def _even(count: int) -> tuple[float, ...]:
    return (1.0,) * count


@dataclass
class _Tale:
    """What has been told so far and will be heard of again. person: of the hero's verbs, 0 to 5."""

    voice: Voice
    goal: str = ""
    home: str = ""
    person: int = 2
    hero: str = ""
    names: tuple[str, ...] = ()
    season: int = 4
    thing: str = ""
    skill: str = ""
    friend: str = ""
    friend_trade: str = ""
    plan: str = ""
    trade: str = ""
    price: int = 0
    told: set[str] = field(default_factory=set)

    @property
    def several(self) -> bool:
        """Whether the hero is more than one."""
        return self.person > 2

    @property
    def you(self) -> int:
        """The person in which the hero is spoken to."""
        return 4 if self.several else 1

    @property
    def me(self) -> int:
        """The person in which the hero speaks."""
        return 3 if self.several else 0


def tell(voice: Voice) -> None:
    """One story: how it began, three scenes or more, how it ended."""
    tale = _Tale(voice)
    _opening(tale)
    for told in itertools.count():
        scenes = _possible_scenes(tale)
        endings = _ENDINGS if told >= 3 else {}
        # Towards the end of the possible scenes an ending grows likely, and at last certain.
        weights = [1.0] * len(scenes) + [0.2 * told] * len(endings)
        openers = [*scenes, *endings]
        opener = openers[voice.choose(openers, weights)]
        if opener in endings:
            endings[opener](tale)
            break
        tale.told.add(opener)
        scenes[opener](tale)
        voice.say(" ")
    voice.say("\n\n")


def _possible_scenes(tale: _Tale) -> dict[str, Callable[[_Tale], None]]:
    """By the words that they begin with, none of them told yet; some need a thing or a friend."""
    scenes = dict(_SCENES)
    if tale.thing:
        scenes |= {"ناگهان ": _lost, "در میدان ": _how_much}
    if tale.friend:
        scenes[f"{tale.friend} "] = _the_friend_again
    return {opener: scene for opener, scene in scenes.items() if opener not in tale.told}


def _opening(tale: _Tale) -> None:
    """The title, when it was, who the hero is, where from, where to and what for, and the weather."""
    voice = tale.voice
    voice.pick(("سفر به ", "در راه ", "خاطره_ای از ", "یادداشت_های "))
    tale.goal = voice.pick(words.CITIES)
    voice.say("\n")
    tale.season = _when(voice)
    _hero(tale)
    if voice.maybe("، که "):
        tale.trade = voice.pick(words.TRADES)
        voice.say(f" {_was(tale.person)}،")
    voice.say(" از ")
    tale.home = voice.pick(without(words.CITIES, tale.goal))
    voice.say(f" به {tale.goal} {words.GO.past(tale.person)}")
    what_for = (
        "",
        " تا کار پیدا کن",
        " تا چیزی بخر",
        " تا با مردم آشنا شو",
        " تا شهر را ببین",
        " تا استراحت کن",
        " تا ",
    )
    chosen = voice.choose(what_for, (3, 1, 1, 1, 1, 1, 3))
    if chosen == len(what_for) - 1:
        tale.skill = voice.pick(words.SKILLS)
        voice.say(f" {words.LEARN.wish(tale.person)}")
    elif chosen:
        voice.say(words.PRESENT[tale.person])
    voice.say(". ")
    voice.pick(words.WEATHER[tale.season])
    voice.say(" ")
    _arrival(tale)
    voice.say("\n")


def _when(voice: Voice) -> int:
    """When it was; the season, or 4 where none was told."""
    kind = voice.pick(("یک شب ", "روز ", "در ", "صبح ", "سال_ها پیش، ", "یک روز "))
    if kind == "سال_ها پیش، ":
        return 4
    if kind in ("یک شب ", "یک روز "):
        season = voice.even(words.OF_SEASONS)
    elif kind == "صبح ":
        voice.even(words.WEEKDAYS)
        season = 4
    elif kind == "روز ":
        voice.number(1, 29)
        voice.say(" ")
        season = voice.even(words.MONTHS) // 3
        voice.say(" ")
        voice.number(1330, 1403)
    else:
        season = voice.even(words.SEASONS)
        voice.say(" ")
        voice.number(1330, 1403)
    voice.say("، ")
    return season


def _hero(tale: _Tale) -> None:
    voice = tale.voice
    heroes = ("من", "ما", *words.NAMES)
    hero = heroes[voice.choose(heroes, (1.2, 1.0, *_falling(len(words.NAMES))))]
    if hero in ("من", "ما"):
        tale.person, tale.hero = (0 if hero == "من" else 3), hero
        return
    tale.person, tale.names, tale.hero = 2, (hero,), hero
    if voice.choose(("", " و "), (2, 1)):
        second = voice.pick(without(words.NAMES, hero))
        tale.person, tale.names, tale.hero = 5, (hero, second), f"{hero} و {second}"


def _arrival(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    voice.say(f"وقتی {words.REACH.past(person)}، ")
    moods = (*words.GLAD, *words.SORRY)
    mood = voice.even(moods)
    voice.say(f" {_was(person)}")
    if voice.maybe("، زیرا "):
        glad = ("همه چیز تازه بود", "شهر زیبا بود", "راه کوتاه بود")
        voice.pick(glad if mood < len(words.GLAD) else ("راه دراز بود", "کسی آنجا نبود", "شب شده بود"))
    voice.say(".")


def _was(person: int) -> str:
    return "بود" + PAST[person]


def _a_new_thing(tale: _Tale) -> str:
    """A thing that the hero comes to have, said with "a": it is `tale.thing` from here on."""
    voice = tale.voice
    with_one = voice.maybe("یک ")
    noun = voice.pick([f"{possessed(thing)} " for thing in words.THINGS])
    fitting = words.QUALITIES if with_one else tuple(word for word in words.QUALITIES if not word.endswith("ی"))
    quality = fitting[voice.choose([word if with_one else some(word) for word in fitting], _falling(len(fitting)))]
    tale.thing = noun + quality
    return tale.thing


def _relative(tale: _Tale, *left_out: str) -> str:
    """One of the hero's family, with the ending that says whose."""
    return tale.voice.pick(without([own(word, tale.person) for word in words.FAMILY], *left_out))


def _answer(tale: _Tale) -> None:
    """What stands before the hero's answer."""
    tale.voice.say(f" {words.SAY.past(tale.person)}: «")


def _bazaar(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    voice.say(f"{tale.goal} ")
    _a_new_thing(tale)
    voice.say(f" {words.SEE.past(person)} و آن را به ")
    tale.price = voice.number(2, 60)
    voice.say(f" هزار تومان {words.BUY.past(person)}.")


def _how_much(tale: _Tale) -> None:
    voice = tale.voice
    voice.pick(("مردی", "زنی", "کودکی", "پیرمردی", "مسافری"))
    voice.say(f" آن {tale.thing} را دید و پرسید: «چند {words.BUY.past(tale.you)}؟»")
    _answer(tale)
    voice.say(f"{digits(tale.price)} هزار تومان.»")


def _fruit(tale: _Tale) -> None:
    """What is left is what was picked without what was given away."""
    voice, person = tale.voice, tale.person
    relative = _relative(tale)
    voice.say(" ")
    count = voice.number(4, 20)
    voice.say(" ")
    voice.pick(words.FRUITS)
    voice.say(f" {words.PICK.past(person)}؛ ")
    given = voice.number(1, count - 1)
    voice.say(" تا را به ")
    _relative(tale, relative)
    voice.say(f" {words.GIVE.past(person)} و {digits(count - given)} تا ")
    voice.pick(("ماند.", f"برای فردا {words.KEEP.past(person)}."))


def _asked(tale: _Tale) -> None:
    """A question to the hero, whose answer was told before."""
    voice, you = tale.voice, tale.you
    _relative(tale)
    voice.say(" پرسید: «")
    questions = [
        f"چرا دیر {words.COME.past(you)}؟»",
        f"از کجا {words.COME.now(you)}؟»",
        f"فردا کجا {words.GO.now(you)}؟»",
        f"با چه کسی {words.TALK.past(you)}؟»",
        "چه آورده_ای؟»" if you == 1 else "چه آورده_اید؟»",
    ]
    asked = voice.even(questions)
    _answer(tale)
    if asked == 0:
        voice.pick(("راه دور بود", f"{words.FALLING[tale.season]} می_بارید", f"کار {_had(tale.me)}", "راه بسته بود"))
    elif asked == 1:
        voice.say(f"از {tale.home}")
    elif asked == 2:
        voice.say("به ")
        voice.pick(words.PLACES)
    elif asked == 3:
        voice.say(f"با {tale.friend}" if tale.friend else "با هیچ کس")
    else:
        voice.say(f"آن {tale.thing} را" if tale.thing else "هیچ چیز")
    voice.say(".»")


def _met(tale: _Tale) -> None:
    """A friend with a trade and a name, who asks for the hero's."""
    voice = tale.voice
    voice.pick([possessed(place) for place in words.PLACES])
    voice.say(" شهر با ")
    tale.friend_trade = words.TRADES[voice.choose([some(trade) for trade in words.TRADES], _falling(len(words.TRADES)))]
    voice.say(f" {words.MEET.past(tale.person)} که نامش ")
    tale.friend = voice.pick(without(words.NAMES, *tale.names))
    voice.say(f" بود. {tale.friend} پرسید: «نام{('ت', 'تان')[tale.several]} چیست؟»")
    _answer(tale)
    if not tale.names:
        if tale.person == 0:
            tale.names = (voice.pick(without(words.NAMES, tale.friend)),)
        else:
            first = voice.pick(without(words.NAMES, tale.friend))
            voice.say(" و ")
            tale.names = (first, voice.pick(without(words.NAMES, tale.friend, first)))
    else:
        voice.say(" و ".join(tale.names))
    voice.say(".»")


def _the_friend_again(tale: _Tale) -> None:
    voice = tale.voice
    voice.say(f"که {tale.friend_trade} بود، ")
    did = [f"به {words.PRONOUNS[tale.person]} کمک کرد.", f"{_them(tale)} به خانه برد."]
    if tale.thing:
        did.append(f"آن {tale.thing} را پسندید.")
    if tale.skill:
        did.append(f"از {tale.skill} چیزی نمی_دانست.")
    voice.even(did)


def _them(tale: _Tale) -> str:
    return "مرا" if tale.person == 0 else f"{words.PRONOUNS[tale.person]} را"


def _letter(tale: _Tale) -> None:
    voice, plural = tale.voice, "ید" if tale.several else ""
    _relative(tale)
    voice.say(" رسید. نوشته بود: «")
    written = [
        "حال همه خوب است",
        f"جای {words.PRONOUNS[tale.you]} خالی است",
        f"در {tale.home} {words.FALLING[tale.season]} می_بارد",
        f"از {tale.goal} برای ما بنویس{plural}",
        f"زود برگرد{plural}",
    ]
    voice.even(written)
    voice.say(f".» در جواب {words.WRITE.past(tale.person)}: «")
    voice.pick(("ماه آینده", "به_زودی", "پیش از عید", "چند روز دیگر", "پس از برداشت محصول"))
    voice.say(f" {words.RETURN.now(tale.me)}.»")


def _lost(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    voice.say(f"آن {tale.thing} گم شد. همه جا را {words.SEARCH.past(person)} و سرانجام آن را ")
    voice.pick(("زیر", "پشت", "کنار"))
    voice.say(" ")
    voice.pick(words.FURNITURE)
    voice.say(f" {words.FIND.past(person)}.")


def _habit(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    hours = [f"{digits(hour)} صبح" for hour in range(5, 12)] + [f"{digits(hour)} عصر" for hour in range(3, 8)]
    voice.even(hours)
    voice.say(" به ")
    voice.pick(words.PLACES)
    voice.say(f" {words.GO.used(person)} و ")
    did = [
        f"کتاب {words.READ.used(person)}.",
        f"با مردم {words.TALK.used(person)}.",
        f"به صدای شهر {words.LISTEN.used(person)}.",
    ]
    if tale.skill:
        did.append(f"{tale.skill} {words.PRACTISE.used(person)}.")
    voice.even(did)


def _learning(tale: _Tale) -> None:
    """The skill is the one that the hero came for."""
    voice, you = tale.voice, tale.you
    if tale.skill:
        voice.say(tale.skill)
    else:
        tale.skill = voice.pick(words.SKILLS)
    voice.say(f" {words.LEARN.past(tale.person)}. {own('استاد', tale.person)} می_گفت: «")
    yours = ("ت", "تان")[tale.several]
    voice.even(
        (f"خوب پیش {words.GO.now(you)}", f"دست{yours} سبک است", f"از همه بهتر {words.ARE[you]}", f"کار{yours} تمیز است")
    )
    voice.say(".»")


def _away(tale: _Tale) -> None:
    voice = tale.voice
    _relative(tale)
    voice.say(" آنجا نبود؛ به ")
    voice.pick(without(words.CITIES, tale.goal, tale.home))
    voice.say(" رفته بود و ")
    voice.even(words.WEEKDAYS)
    voice.say(f" {words.RETURN.used(2)}.")


def _dream(tale: _Tale) -> None:
    """An animal whose advice is to go home."""
    voice, plural = tale.voice, "ید" if tale.several else ""
    beast = words.BEASTS[voice.choose([some(beast) for beast in words.BEASTS], _falling(len(words.BEASTS)))]
    voice.say(f" {words.SEE.past(tale.person)} که ")
    voice.pick(("آواز می_خواند", "از رودخانه می_گذشت", "بر بام نشسته بود", "حرف می_زد", "می_گریست"))
    voice.say(f". {beast} گفت: «")
    advice = [f"نترس{plural}", f"برگرد{plural}", f"صبر کن{plural}", f"به {tale.home} برگرد{plural}"]
    if tale.plan:
        advice.append(f"به {tale.plan} نرو{plural}")
    voice.even(advice)
    voice.say(".»")


def _plans(tale: _Tale) -> None:
    voice = tale.voice
    voice.say(f"{words.SAY.past(tale.person)}: «سال آینده به ")
    tale.plan = voice.pick(without(words.CITIES, tale.goal, tale.home))
    voice.say(f" {words.GO.will(tale.me)}.»")


def _work(tale: _Tale) -> None:
    """What was earned is a product."""
    voice, person = tale.voice, tale.person
    days = voice.number(2, 9)
    voice.say(" روز در ")
    voice.pick(words.BUILDINGS)
    voice.say(f" {words.WORK.past(person)}؛ روزی ")
    wages = (10, 20, 30, 40, 50)
    wage = wages[voice.even([digits(wage) for wage in wages])]
    voice.say(f" هزار تومان، روی هم {digits(days * wage)} هزار تومان {words.TAKE.past(person)}.")


def _lunch(tale: _Tale) -> None:
    voice = tale.voice
    food = voice.pick(words.FOODS)
    voice.say(" با ")
    voice.pick(without(words.SIDES, food))
    voice.say(f" {words.EAT.past(tale.person)}")
    voice.pick(words.TASTES)


def _seen(tale: _Tale) -> None:
    voice = tale.voice
    voice.pick(words.BUILDINGS)
    voice.say(" ")
    voice.pick([some(trade) for trade in words.TRADES])
    voice.say(f" {words.SEE.past(tale.person)} که ")
    voice.pick(words.DOINGS)
    voice.say(".")


def _walls(tale: _Tale) -> None:
    voice = tale.voice
    voice.pick([possessed(place) for place in words.BUILDINGS])
    voice.say(" شهر ")
    voice.pick(words.QUALITIES)
    voice.say(" بود و از پنجره_هایش ")
    voice.pick(words.VIEWS)
    voice.say(" دیده می_شد.")


def _people(tale: _Tale) -> None:
    voice = tale.voice
    voice.say(f"{tale.goal} ")
    voice.pick(words.MANNERS)
    voice.say(" بودند و ")
    voice.pick(words.CUSTOMS)
    voice.say(".")


def _quarrel(tale: _Tale) -> None:
    """Two of them, and both speak of what the story named first."""
    voice = tale.voice
    thing = voice.pick(words.THINGS)
    voice.say(f" دعوا می_کردند. یکی می_گفت: «این {thing} مال من است.» دیگری می_گفت: «")
    voice.even((f"{possessed(thing)} تو گم شد", "نه، مال من است", "پس پولش را بده", "تو مال خودت را فروختی"))
    voice.say(".»")


def _walk(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    _relative(tale)
    voice.say(" تا ")
    voice.pick(words.PLACES)
    voice.say(f" {words.WALK.past(person)} و ")
    drinks = [f"{drink} {words.DRINK.past(person)}." for drink in words.DRINKS]
    voice.pick((*drinks, f"از {tale.home} {words.TALK.past(person)}.", f"زود {words.RETURN.past(person)}."))


def _quiet(tale: _Tale) -> None:
    """The weather again; it has stayed what it was."""
    tale.voice.pick(words.WEATHER[tale.season])


_SCENES: dict[str, Callable[[_Tale], None]] = {
    "در بازار ": _bazaar,
    "از باغ ": _fruit,
    "شب ": _asked,
    "نزدیک ": _met,
    "یک هفته بعد نامه_ای از ": _letter,
    "هر روز ساعت ": _habit,
    "کم_کم ": _learning,
    "اما ": _away,
    "در خواب ": _dream,
    "با خود ": _plans,
    "پس از آن ": _work,
    "بیرون، ": _quiet,
    "ناهار ": _lunch,
    "روزی در ": _seen,
    "دیوارهای ": _walls,
    "مردم ": _people,
    "دو نفر بر سر ": _quarrel,
    "عصر با ": _walk,
}


def _back_home(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    voice.say(f"به {tale.home} {words.RETURN.past(person)}، ")
    if tale.thing and voice.maybe(f"آن {tale.thing} را به "):
        _relative(tale)
        voice.say(f" {words.GIVE.past(person)}.")
        return
    voice.pick((*words.GLAD, *words.SORRY))
    voice.say(f" {_was(person)}.")


def _years_later(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    voice.say(f"{tale.hero} هنوز ")
    kept = [f"از {tale.goal} {words.TALK.used(person)}."]
    if tale.thing:
        kept.append(f"آن {tale.thing} را {_had(person)}.")
    if tale.friend:
        kept.append(f"برای {tale.friend} نامه {words.WRITE.used(person)}.")
    if tale.skill:
        kept.append(f"{tale.skill} را دوست {_had(person)}.")
    voice.even(kept)


def _had(person: int) -> str:
    return "داشت" + PAST[person]


def _today(tale: _Tale) -> None:
    voice, person = tale.voice, tale.person
    voice.say(f"{tale.hero} در ")
    cities = [tale.home, tale.goal, *([tale.plan] if tale.plan else [])]
    voice.even(cities)
    voice.say(f" {words.LIVE.now(person)} و ")
    voice.say(tale.trade) if tale.trade else voice.pick(words.TRADES)
    voice.say(f" {words.ARE[person]}.")


_ENDINGS: dict[str, Callable[[_Tale], None]] = {
    "هنگامی که ": _back_home,
    "سال_ها بعد، ": _years_later,
    "امروز ": _today,
}

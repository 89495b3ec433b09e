"""Words of the Persian stories, and how they change: plural, ezafe, the ending "a", whose it is, and the forms of verbs.

An underscore stands for the zero-width non-joiner (U+200C), which cannot be seen; `visible` puts it in. Persons are numbered
0 to 5: I, you, he or she, we, you (several), they.

    >>> visible(own("خانه", 2)) == "خانه\u200cاش", possessed("خانه") == "خانه\u0654", own("کتاب", 3)
    (True, True, 'کتابمان')
    >>> Verb("رفت", "رو").past(5), Verb("آمد", "آی").wish(2), Verb("کرد", "کن", "پیدا ").past(0)
    ('رفتند', 'بیاید', 'پیدا کردم')
"""

from collections.abc import Iterable
from dataclasses import dataclass

PAST = ("م", "ی", "", "یم", "ید", "ند")
PRESENT = ("م", "ی", "د", "یم", "ید", "ند")
OWNERS = ("م", "ت", "ش", "مان", "تان", "شان")
ARE = ("هستم", "هستی", "است", "هستیم", "هستید", "هستند")
PRONOUNS = ("من", "تو", "او", "ما", "شما", "آن_ها")

NAMES = (
    "مریم", "علی", "زهرا", "رضا", "سارا", "حسن", "مینا", "امیر", "نرگس", "بهرام", "لیلا", "کاوه", "پروین",
    "آرش", "شیرین", "سهراب",
    "نسرین", "فرهاد", "مهتاب", "بیژن", "پریسا", "منوچهر", "سیمین", "کیان", "آرزو", "یوسف", "ریحانه", "احمد",
    "نیلوفر", "محمود",
    "گلنار", "ناصر", "فرشته", "جمشید", "ترانه", "سیاوش", "ژاله", "پرویز", "ستاره", "هوشنگ", "شهرزاد", "نادر",
    "مهری", "بابک",
    "طاهره", "مازیار", "ثریا", "پیمان", "عاطفه", "سعید", "غزل", "جواد",
)  # fmt: skip
CITIES = (
    "تهران", "شیراز", "اصفهان", "تبریز", "مشهد", "یزد", "کرمان", "رشت", "همدان", "اهواز", "بوشهر", "قزوین",
    "کاشان", "گرگان", "ساری",
    "زنجان", "اردبیل", "کرمانشاه", "بندرعباس", "نیشابور", "سمنان", "بیرجند", "سنندج", "خرم_آباد", "ایلام",
    "یاسوج", "زاهدان",
    "شهرکرد", "اراک", "طبس", "میبد", "ماسوله", "لاهیجان", "مراغه", "دزفول", "بابل",
)  # fmt: skip
PLACES = (
    "مدرسه", "کتابخانه", "پارک", "میدان", "ایستگاه", "رودخانه", "پل", "موزه", "کارگاه", "قهوه_خانه", "باغ",
    "نانوایی", "دانشگاه",
    "بیمارستان", "ساحل", "آسیاب", "تماشاخانه", "قلعه", "چشمه", "کاروان_سرا",
)  # fmt: skip
THINGS = (
    "کتاب", "چراغ", "فرش", "ساعت", "گلدان", "کوزه", "جعبه", "آینه", "چتر", "کلاه", "پیراهن", "صندوق", "سکه",
    "انگشتر", "نقشه", "سه_تار",
    "دفتر", "قلم", "شمعدان", "پارچه", "دوربین", "عکس", "کلید", "سینی", "پتو", "عصا", "فانوس", "کیف", "صندلی", "قفس",
)  # fmt: skip
QUALITIES = (
    "کوچک", "قدیمی", "زیبا", "بزرگ", "کهنه", "سبز", "چوبی", "سرخ", "سنگین", "آبی", "عجیب", "ساده", "سیاه",
    "ظریف", "سفید", "مسی", "زرد",
    "سبک", "کوتاه", "شکسته", "بلند", "نقره_ای", "براق", "تیره", "بی_رنگ",
)  # fmt: skip
FRUITS = (
    "سیب", "انار", "پرتقال", "گردو", "هلو", "انجیر", "نارنگی", "خربزه", "گلابی", "هندوانه", "زردآلو", "لیمو",
    "آلو", "خرمالو",
)  # fmt: skip
TRADES = (
    "معلم", "نجار", "پزشک", "نانوا", "باغبان", "ماهیگیر", "نویسنده", "نقاش", "خیاط", "آهنگر", "راننده",
    "کتابدار", "معمار", "پرستار",
    "عکاس", "چوپان", "کفاش", "ساعت_ساز", "آشپز", "نوازنده",
)  # fmt: skip
FAMILY = (
    "مادر", "پدر", "خواهر", "برادر", "مادربزرگ", "پدربزرگ", "دوست", "عمو", "خاله", "دایی", "عمه", "همسایه",
    "دختر", "پسر",
)  # fmt: skip
SKILLS = (
    "خوش_نویسی", "شنا", "آشپزی", "نجاری", "نقاشی", "خیاطی", "عکاسی", "شطرنج", "موسیقی", "باغبانی", "قالی_بافی",
    "سفالگری", "ریاضی", "نجوم",
)  # fmt: skip
BUILDINGS = (
    "مدرسه", "کتابخانه", "ایستگاه", "موزه", "کارگاه", "قهوه_خانه", "نانوایی", "دانشگاه", "بیمارستان", "آسیاب", "تماشاخانه", "قلعه",
    "کاروان_سرا",
)  # fmt: skip
FOODS = ("نان", "آش", "پلو", "کباب", "ماهی", "عدسی", "آبگوشت", "خوراک لوبیا", "املت", "کوفته", "حلیم", "کوکو")
SIDES = ("پنیر", "سبزی", "ماست", "پیاز", "خرما", "دوغ", "ترشی", "گردو", "عسل", "زیتون", "سالاد", "مربا")
TASTES = (
    ".",
    "؛ خوشمزه بود.",
    "؛ کمی شور بود.",
    "؛ سرد شده بود.",
    "، نشسته بر زمین.",
    "، با دست_های سرد.",
    "، زیر درختی بلند.",
)
DOINGS = (
    "آواز می_خواند", "نان می_خورد", "روزنامه می_خواند", "کفش_هایش را پاک می_کرد", "با گربه_ای بازی می_کرد", "پول می_شمرد",
    "به آسمان نگاه می_کرد", "می_خندید", "با خود حرف می_زد", "درختی را آب می_داد", "نامه_ای را می_سوزاند", "خوابش برده بود",
)  # fmt: skip
VIEWS = ("کوه", "دریا", "باغ", "جنگل", "بازار", "رودخانه", "دشت", "گنبد", "قبرستان", "پل", "آسیاب", "تپه_ها")
MANNERS = ("مهربان", "کم_حرف", "پرکار", "مهمان_نواز", "شوخ", "بی_شتاب", "کنجکاو", "سخت_گیر")
CUSTOMS = (
    "شب_ها دور آتش می_نشستند", "صبح زود بیدار می_شدند", "هر جمعه به کوه می_رفتند", "چای را بی قند می_خوردند",
    "درها را قفل نمی_کردند",
    "از باران خوششان می_آمد", "به غریبه_ها سلام می_کردند", "داستان_های دراز می_گفتند",
)  # fmt: skip
DRINKS = ("چای", "قهوه", "شربت", "دوغ", "آب خنک", "شیر گرم")
BEASTS = ("پرنده", "گرگ", "آهو", "اسب", "گربه", "روباه", "شیر", "ماهی", "کلاغ", "پلنگ", "لاک_پشت", "قو")
FURNITURE = ("میز", "تخت", "پنجره", "در", "پله", "پرده", "بخاری", "درخت", "دیوار", "قالی")
GLAD = ("خوشحال", "شاد", "امیدوار", "آرام", "کنجکاو")
SORRY = ("خسته", "غمگین", "نگران", "تنها", "گرسنه", "پشیمان")
WEEKDAYS = ("شنبه", "یکشنبه", "دوشنبه", "سه_شنبه", "چهارشنبه", "پنجشنبه", "جمعه")
MONTHS = ("فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور", "مهر", "آبان", "آذر", "دی", "بهمن", "اسفند")
SEASONS = ("بهار", "تابستان", "پاییز", "زمستان")
OF_SEASONS = ("بهاری", "تابستانی", "پاییزی", "زمستانی")
WEATHER = (
    ("باران نرمی می_بارید.", "شکوفه_ها باز شده بودند.", "هوا بوی خاک می_داد.", "نسیم خنکی می_وزید.", "دشت پر از لاله بود."),
    ("هوا گرم بود.", "آفتاب تند بود.", "سایه_ها کوتاه بودند و راه دراز.", "گندم_ها زرد شده بودند.", "از گرما کسی بیرون نبود."),
    ("برگ_ها می_ریختند.", "باد سردی می_وزید.", "ابرها پایین آمده بودند.", "باران بند نمی_آمد.", "کلاغ_ها به شهر آمده بودند."),
    ("برف همه جا را پوشانده بود.", "راه_ها یخ بسته بود.", "باد سوزناکی می_وزید.", "روزها کوتاه بود.", "از بام_ها دود بلند بود."),
    ("آسمان صاف بود.", "راه خلوت بود.", "کسی در راه نبود.", "گرد و خاک راه می_نشست.", "سگ_ها پارس می_کردند."),
)  # fmt: skip
"""What the weather is like in each season, and where no season was told."""
FALLING = ("باران", "باران", "باران", "برف", "باران")
"""What falls from the sky in each season."""


def visible(text: str) -> str:
    """The text with real zero-width non-joiners."""
    return text.replace("_", "\u200c")


def digits(number: int) -> str:
    """A number in Persian digits.

    >>> digits(1403)
    '۱۴۰۳'
    """
    return str(number).translate({ord("0") + value: 0x06F0 + value for value in range(10)})


def silent_h(word: str) -> bool:
    """Whether the last letter is the h that is written and not spoken: خانه, but not راه."""
    return word.endswith("ه") and not word.endswith("اه")


def open_end(word: str) -> bool:
    """Whether the word ends in a spoken long vowel other than i."""
    return word.endswith(("ا", "و"))


def possessed(word: str) -> str:
    """The word with the ezafe before what belongs to it, as far as it is written."""
    return word + ("\u0654" if silent_h(word) else "ی" if open_end(word) else "")


def some(word: str) -> str:
    """The word with the ending that says "a"."""
    if silent_h(word) or word.endswith("ی"):
        return word + "_ای"
    return word + ("یی" if open_end(word) else "ی")


def own(word: str, person: int) -> str:
    """The word with the ending of its owner: my, your, …"""
    ending = OWNERS[person]
    if silent_h(word) or word.endswith("ی"):
        return f"{word}_ا{ending}" if person < 3 else f"{word}_{ending}"
    return word + ("ی" if open_end(word) else "") + ending


def without(words: Iterable[str], *left_out: str) -> tuple[str, ...]:
    """The words but those."""
    return tuple(word for word in words if word not in left_out)


@dataclass(frozen=True)
class Verb:
    ""

    "A verb by the stems of its past and its present; before: what stands in front of them, with a space or without."
    ""

    past_stem: str
    present_stem: str
    before: str = ""

    def past(self, person: int) -> str:
        """It happened."""
        return self.before + self.past_stem + PAST[person]

    def used(self, person: int) -> str:
        """It went on, or happened again and again."""
        return f"{self.before}می_{self.past_stem}{PAST[person]}"

    def now(self, person: int) -> str:
        """It happens."""
        return f"{self.before}می_{self.present_stem}{PRESENT[person]}"

    def wish(self, person: int) -> str:
        """That it may happen."""
        stem = self.present_stem
        if not self.before or (self.before.endswith(" ") and stem not in ("کن", "شو")):
            stem = f"بیا{stem[1:]}" if stem.startswith("آ") else f"بی{stem[1:]}" if stem.startswith("ا") else f"ب{stem}"
        return self.before + stem + PRESENT[person]

    def will(self, person: int) -> str:
        """It is going to happen."""
        return f"{self.before}خواه{PRESENT[person]} {self.past_stem}"


GO, SEE, SAY, WRITE = Verb("رفت", "رو"), Verb("دید", "بین"), Verb("گفت", "گوی"), Verb("نوشت", "نویس")
BUY, GIVE, TAKE, REACH = Verb("خرید", "خر"), Verb("داد", "ده"), Verb("گرفت", "گیر"), Verb("رسید", "رس")
RETURN, LEARN, PICK = Verb("گشت", "گرد", "بر"), Verb("گرفت", "گیر", "یاد "), Verb("چید", "چین")
FIND, WORK, PRACTISE = Verb("کرد", "کن", "پیدا "), Verb("کرد", "کن", "کار "), Verb("کرد", "کن", "تمرین ")
LIVE, TALK, READ, KEEP = (
    Verb("کرد", "کن", "زندگی "), Verb("زد", "زن", "حرف "), Verb("خواند", "خوان"), Verb("داشت", "دار", "نگه "),
)  # fmt: skip
EAT, WALK, DRINK = Verb("خورد", "خور"), Verb("زد", "زن", "قدم "), Verb("نوشید", "نوش")
COME, LISTEN, SEARCH, MEET = Verb("آمد", "آی"), Verb("داد", "ده", "گوش "), Verb("گشت", "گرد"), Verb("شد", "شو", "آشنا ")

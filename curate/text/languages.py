"""Languages: one table from the tags that corpora and models write to the tag that stages compare.

A tag may be BCP-47 (`en-US`, `zh-TW`), ISO 639-1 or 639-3 (`de`, `deu`), NLLB's and FLORES' `deu_Latn`, FLEURS'
`hi_in`, or one of Whisper's own (`jw`, `nb`, `tl`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs

_ISO_639_3 = """
aar aa abk ab afr af aka ak amh am ara ar arg an asm as ava av ave ae aym ay aze az bak ba bam bm bel be ben bn bis bi
bod bo bos bs bre br bul bg cat ca ces cs cha ch che ce chu cu chv cv cor kw cos co cre cr cym cy dan da deu de div dv
dzo dz ell el eng en epo eo est et eus eu ewe ee fao fo fas fa fij fj fin fi fra fr fry fy ful ff gla gd gle ga glg gl
glv gv grn gn guj gu hat ht hau ha heb he her hz hin hi hmo ho hrv hr hun hu hye hy ibo ig ido io iii ii iku iu ile ie
ina ia ind id ipk ik isl is ita it jav jv jpn ja kal kl kan kn kas ks kat ka kau kr kaz kk khm km kik ki kin rw kir ky
kom kv kon kg kor ko kua kj kur ku lao lo lat la lav lv lim li lin ln lit lt ltz lb lub lu lug lg mah mh mal ml mar mr
mkd mk mlg mg mlt mt mon mn mri mi msa ms mya my nau na nav nv nbl nr nde nd ndo ng nep ne nld nl nno nn nor no nya ny
oci oc oji oj ori or orm om oss os pan pa pli pi pol pl por pt pus ps que qu roh rm ron ro run rn rus ru sag sg san sa
sin si slk sk slv sl sme se smo sm sna sn snd sd som so sot st spa es sqi sq srd sc srp sr ssw ss sun su swa sw swe sv
tah ty tam ta tat tt tel te tgk tg tha th tir ti ton to tsn tn tso ts tuk tk tur tr twi tw uig ug ukr uk urd ur uzb uz
ven ve vie vi vol vo wln wa wol wo xho xh yid yi yor yo zha za zho zh zul zu
"""

# The second names of a language: ISO 639-2/B, retired codes, members that a macrolanguage stands for, Whisper's own.
_OTHERS = """
alb sq arm hy baq eu bur my chi zh cze cs dut nl fre fr geo ka ger de gre el ice is mac mk mao mi may ms per fa rum ro
slo sk tib bo wel cy
iw he in id ji yi jw jv mo ro mol ro sh sr nb no nob no nno nn tl fil tgl fil cmn zh arb ar pes fa zsm ms ekk et lvs lv
khk mn plt mg swh sw uzn uz azj az ydd yi quz qu npi ne ory or als sq gaz om kmr ku fuv ff ayr ay dik din
"""


def _table(words: str) -> dict[str, str]:
    codes = words.split()
    return dict(zip(codes[::2], codes[1::2], strict=True))


CODES: Mapping[str, str] = MappingProxyType({**_table(_ISO_639_3), **_table(_OTHERS)})
"""A language's other codes → the code that stages compare: ISO 639-1, or 639-3 where there is none of two letters."""

# The scripts that IANA's registry of subtags suppresses: a tag does not name the script that a language is written in.
_USUAL_SCRIPTS = """
Latn af ay bs ca ch cs cy da de en eo es et eu fi fil fj fo fr fy ga gl gn gv hr ht hu id is it kl la lb ln lt lv mg mh
Latn ms mt na nd nl no nr ny om pl pt qu rm rn ro rw sg sk sl sm so sq ss st sv sw tn to tr ts ve vi xh zu
Arab ar fa ps ur
Beng as bn
Cyrl ab be bg kk mk ru uk
Deva hi mr ne
Hebr he yi
Ethi am ti
Tibt dz
Grek el
Gujr gu
Guru pa
Armn hy
Jpan ja
Geor ka
Khmr km
Knda kn
Kore ko
Laoo lo
Mlym ml
Mymr my
Orya or
Sinh si
Taml ta
Telu te
Thai th
Thaa dv
"""


def _scripts(lines: str) -> dict[str, str]:
    rows = (line.split() for line in lines.strip().splitlines())
    return {code: script for script, *codes in rows for code in codes}


_USUAL_SCRIPT: Mapping[str, str] = MappingProxyType(_scripts(_USUAL_SCRIPTS))
_REGIONS = MappingProxyType({("zh", "yue"): "yue"})
_TAG = re.compile(r"([a-z]{2,3})((?:-[a-z0-9]{1,8})*)")


@attrs.frozen
class Language:
    """A language as stages compare it.

    Args:
        code: ISO 639-1, or ISO 639-3 if there is none: `zh` for `cmn-Hant-TW`, `yue`.
        script: ISO 15924, `Latn`; None: the tag does not say.
        region: ISO 3166-1 or UN M.49, `TW`; None: the tag does not say.
    """

    code: str
    script: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return "-".join(part for part in (self.code, self.script, self.region) if part)


@functools.lru_cache(maxsize=4096)
def parse_language(tag: str) -> Language | None:
    """Return the language that a tag names; None for `und`, `mul`, `zxx`, `mis` and what is not a tag."""
    match = _TAG.fullmatch(tag.strip().lower().replace("_", "-"))
    if match is None:
        return None
    code, rest = match[1], match[2].split("-")[1:]
    if code in ("und", "mul", "zxx", "mis"):
        return None
    if rest and (code, rest[0]) in _REGIONS:
        return Language(_REGIONS[code, rest[0]])
    code, script, region = CODES.get(code, code), None, None
    for subtag in rest:
        if len(subtag) == 1:  # an extension, or private use
            break
        if len(subtag) == 4 and subtag.isalpha() and script is None:
            script = subtag.title()
        elif region is None and ((len(subtag) == 2 and subtag.isalpha()) or (len(subtag) == 3 and subtag.isdigit())):
            region = subtag.upper()
    return Language(code, script, region)


def language_code(tag: object) -> str | None:
    """Return the code of the language that a record's `lang` names; None if there is none, whatever the value."""
    if not isinstance(tag, str) or len(tag) > 64:
        return None
    language = parse_language(tag)
    return None if language is None else language.code


def language_tag(tag: object) -> str | None:
    """Return the tag that a reader writes to `lang`: BCP-47, with the code that stages compare; None if there is none.

    `deu_Latn` is `de`, `zh_tw` is `zh-TW`, `uzn_Cyrl` is `uz-Cyrl`, Whisper's `jw` is `jv`. The script is left out
    if it is the usual one of the language.
    """
    if not isinstance(tag, str) or len(tag) > 64:
        return None
    language = parse_language(tag)
    if language is None:
        return None
    if language.script == _USUAL_SCRIPT.get(language.code):
        language = attrs.evolve(language, script=None)
    return str(language)

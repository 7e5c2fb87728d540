"""Noise tags: what transcribers write in brackets for what is not speech, `[noise]`, `<unk>`, `(laughs)`."""

from __future__ import annotations

import re

_NOISES = """
applause beep beeping bell breath breathing breathes background background_noise background-noise buzz buzzing
cheering chuckle chuckles chuckling clap clapping clears_throat click cough coughing coughs cross-talk
crosstalk cry crying foreign gasp gasps giggle giggles groans hesitation hiss hum humming inaudible
incomprehensible indistinct laugh laughing laughs laughter lipsmack music musik musique música noise noises
overlap pause phone_ringing rire rires risas rustling screaming sigh sighing sighs silence sil singing sneeze
sneezes sniff sniffs snoring sob sobbing speaker static unclear unintelligible unk unknown unverständlich
whisper whispering whispers whistling yawn yawns lachen lacht gelächter husten räuspern atmen rauschen stille
applaus beifall geräusch ruido aplausos tos silencio bruit applaudissements toux aplauso смех музыка шум
аплодисменты кашель пауза неразборчиво 笑 笑声 音乐 音楽 拍手 噪音 掌声 웃음 음악 박수
"""
NOISES = frozenset(_NOISES.split())
"""Words that name a noise where they stand alone, or only with others of the table, in round brackets or asterisks."""

# The length is bounded, so that brackets which never close take linear time.
_TAG = re.compile(
    r"\[[^\[\]]{0,60}\]"
    r"|【[^【】]{0,60}】"
    r"|\{[^{}]{0,60}\}"
    r"|</?[^\W\d_][^<>]{0,58}>"
    r"|<\|[^<>]{0,58}\|>"
)
_ROUND = re.compile(r"[(（]([^()（）]{1,60})[)）]|\*([^*\n]{1,60})\*")


def drop_noise_tags(text: str) -> str:
    """Return a string with a blank for each noise tag.

    Square, curly, angle and lenticular brackets of at most 60 characters are tags whatever they hold: a transcriber
    has added it. Round brackets and asterisks are tags only if they hold nothing but words that name a noise; anything
    else in them is speech, and stays.
    """
    if not any(bracket in text for bracket in "[{<【(（*"):
        return text
    return _ROUND.sub(_blank_if_noise, _TAG.sub(" ", text))


def _blank_if_noise(match: re.Match[str]) -> str:
    words = re.split(r"[\s,.!?…]+", (match[1] or match[2]).casefold().strip(" \t,.!?…"))
    whole = "_".join(words)
    return " " if whole in NOISES or all(word in NOISES for word in words) else match[0]

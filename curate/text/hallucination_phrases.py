"""Phrases that recognisers write for silence and noise, by language: ends of videos, credits of subtitles.

Collected from public reports on Whisper and from its output for silence. People do say them, so that a match alone is
not evidence of a hallucination.
"""

from __future__ import annotations

import functools

from curate.text.script_rules import apply_script_rules

PHRASES = {
    "en": (
        "you",
        "thank you",
        "thank you very much",
        "thank you so much",
        "thanks",
        "thanks for watching",
        "thank you for watching",
        "thank you so much for watching",
        "thanks for watching and see you next time",
        "please subscribe",
        "please subscribe to my channel",
        "please like and subscribe",
        "don't forget to subscribe",
        "like and subscribe",
        "see you next time",
        "see you in the next video",
        "i'll see you in the next video",
        "bye",
        "bye bye",
        "goodbye",
        "okay",
        "so",
        "i'm sorry",
        "the end",
        "subtitles by the amara.org community",
        "transcription by castingwords",
        "transcribed by otter.ai",
    ),
    "de": (
        "vielen dank",
        "danke",
        "danke schön",
        "vielen dank fürs zuschauen",
        "danke fürs zuschauen",
        "untertitel der amara.org-community",
        "untertitelung des zdf für funk",
        "untertitelung des zdf",
        "untertitel im auftrag des zdf für funk",
        "untertitelung aufgrund der amara.org-community",
        "swr",
        "bis zum nächsten mal",
        "tschüss",
    ),
    "fr": (
        "merci",
        "merci beaucoup",
        "merci d'avoir regardé cette vidéo",
        "merci d'avoir regardé",
        "sous-titres réalisés par la communauté d'amara.org",
        "sous-titres réalisés para la communauté d'amara.org",
        "sous-titrage société radio-canada",
        "sous-titrage st' 501",
        "abonnez-vous",
        "à bientôt",
    ),
    "es": (
        "gracias",
        "muchas gracias",
        "gracias por ver el video",
        "gracias por ver el vídeo",
        "subtítulos realizados por la comunidad de amara.org",
        "subtítulos por la comunidad de amara.org",
        "suscríbete al canal",
        "suscríbete",
        "hasta la próxima",
    ),
    "pt": (
        "obrigado",
        "muito obrigado",
        "obrigado por assistir",
        "legendas pela comunidade amara.org",
        "inscreva-se no canal",
    ),
    "it": (
        "grazie",
        "grazie a tutti",
        "grazie per la visione",
        "sottotitoli creati dalla comunità amara.org",
        "sottotitoli e revisione a cura di qtss",
        "iscriviti al canale",
    ),
    "nl": (
        "bedankt voor het kijken",
        "bedankt",
        "dank u wel",
        "ondertitels ingediend door de amara.org gemeenschap",
        "ondertiteld door de amara.org gemeenschap",
        "tv gelderland 2021",
    ),
    "pl": ("dziękuję", "dziękuję za uwagę", "dziękuję za oglądanie", "napisy stworzone przez społeczność amara.org"),
    "ru": (
        "спасибо",
        "спасибо за просмотр",
        "спасибо за внимание",
        "продолжение следует",
        "субтитры сделал dimatorzok",
        "субтитры создавал dimatorzok",
        "субтитры делал dimatorzok",
        "редактор субтитров а.синецкая корректор а.егорова",
        "подписывайтесь на канал",
        "до свидания",
    ),
    "uk": ("дякую", "дякую за перегляд", "дякую за увагу"),
    "cs": ("děkuji", "titulky vytvořil johnyx", "děkuji za pozornost"),
    "tr": (
        "teşekkürler",
        "teşekkür ederim",
        "izlediğiniz için teşekkürler",
        "izlediğiniz için teşekkür ederim",
        "altyazı m.k.",
    ),
    "ar": ("شكرا", "شكرا لكم", "شكرا على المشاهدة", "ترجمة نانسي قنقر", "اشتركوا في القناة", "اشترك في القناة"),
    "he": ("תודה", "תודה רבה", "תודה על הצפייה"),
    "hi": ("धन्यवाद", "देखने के लिए धन्यवाद", "प्रस्तुत्र"),
    "zh": (
        "谢谢",
        "谢谢大家",
        "谢谢观看",
        "感谢观看",
        "謝謝",
        "謝謝觀看",
        "謝謝大家",
        "字幕由amara.org社区提供",
        "字幕由amara.org社區提供",
        "字幕志愿者 李宗盛",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
        "請不吝點贊 訂閱 轉發 打賞支持明鏡與點點欄目",
        "中文字幕提供",
        "未经作者授权 禁止转载",
    ),
    "ja": (
        "ご視聴ありがとうございました",
        "ご視聴ありがとうございます",
        "ありがとうございました",
        "ありがとうございます",
        "チャンネル登録をお願いいたします",
        "チャンネル登録お願いします",
        "最後までご視聴いただきありがとうございます",
        "おやすみなさい",
        "字幕視聴ありがとうございました",
    ),
    "ko": (
        "감사합니다",
        "시청해주셔서 감사합니다",
        "시청해 주셔서 감사합니다",
        "구독과 좋아요 부탁드립니다",
        "구독 좋아요 부탁드립니다",
        "mbc 뉴스 김성현입니다",
        "mbc 뉴스 이덕영입니다",
        "다음 영상에서 만나요",
    ),
    "th": ("ขอบคุณ", "ขอบคุณครับ", "ขอบคุณค่ะ", "โปรดติดตามตอนต่อไป"),
    "vi": (
        "cảm ơn các bạn đã theo dõi",
        "cảm ơn các bạn đã xem",
        "cảm ơn",
        "hãy subscribe cho kênh ghiền mì gõ để không bỏ lỡ những video hấp dẫn",
    ),
    "id": ("terima kasih", "terima kasih telah menonton", "terima kasih sudah menonton"),
    "sv": (
        "tack",
        "tack för att ni tittade",
        "undertexter från amara.org-gemenskapen",
        "textning stina hedin www.btistudios.com",
    ),
    "no": ("takk", "takk for at du så på", "undertekster av ai-media", "teksting av nicolai winther"),
    "da": ("tak", "tak fordi i så med", "danske tekster af jesper buhl scandinavian text service 2018"),
    "fi": ("kiitos", "kiitos kun katsoit", "kiitos katsomisesta"),
    "el": ("ευχαριστώ", "υπότιτλοι authorwave", "ευχαριστώ που παρακολουθήσατε"),
    "ro": ("mulțumesc", "mulțumesc pentru vizionare", "vă mulțumim pentru vizionare"),
    "hu": ("köszönöm", "köszönöm, hogy megnéztétek", "köszönöm a figyelmet"),
}
"""Code of the language → phrases, in any spelling that the rules of the script make equal."""


@functools.cache
def phrases_of(lang: str | None) -> frozenset[str]:
    """Return the normalised phrases of a language without blanks; of all languages if it is None or has no table."""
    languages = (lang,) if lang in PHRASES else tuple(PHRASES)
    return frozenset(
        compact(apply_script_rules(phrase, each)) for each in languages if each for phrase in PHRASES[each]
    )


def compact(normalised: str) -> str:
    """Return a normalised text without blanks, so that a phrase is found however its words are separated."""
    return "".join(normalised.split())

"""What a header says of contrast agent: that one was given, that none was, or nothing."""

from __future__ import annotations

import re
import unicodedata

from pipeline.headers.attributes import Facts
from pipeline.headers.unknown import is_unknown

_DENIALS = """
    no non none nil not off false negative never without w/o wo w/out out withheld refused declined omitted cancelled
    unenhanced noncontrast noncon nc native nativ plain pre precontrast
    ohne kein keine keines keiner nein nicht sans aucun aucune pas sin ningun ninguno ninguna sem nenhum nenhuma não nao
    senza nessun nessuno nessuna zonder geen nee utan ingen inget nej uden ikke uten bez brak nie żaden без нет не hayır
    yok なし 無し 无 無 未 没有 否
"""
_DENYING_PARTS = re.compile(
    r"(?<![a-z])(no|non|sans|ohne|without)(contrast|kontrast|gad|gd|agent|inj)|unenhanced"
    r"|平扫|未使用|未注射|未增强|非增强|非造影|造影なし|単純|없음|조영 ?전"
)
_DOSE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:ml|cc|mmol|mg|g|cm3)?(?![a-z0-9])")
_NON_IONIC = re.compile(r"non?[ -]?ionic")
_OF_SOMETHING_ELSE = re.compile(
    r"(?<![a-z])no?[.°º#]+ ?\d+|(?<![a-z])no (adverse|allerg|complication|reaction|side)\w*"
)
"""Where "no" is a number's or denies something else."""
_NOTHING = re.compile(r"0+(?:[.,]0+)?")


def agent_given(facts: Facts) -> bool | None:
    """Return whether a header says that contrast agent was given before a frame.

    Parameters
    ----------
    facts
        Of a frame. An agent may be named before it is given, and Enhanced MR says which (PS3.3 C.7.6.16.2.12).

    Returns
    -------
    bool or None
        None where the header does not say; a route alone says nothing, nor does a volume of zero, which scanners write
        by themselves. A name that cannot be read was written for something that was given.
    """
    administered = facts.text("ContrastBolusAgentAdministered").upper()
    if administered in {"YES", "NO"}:
        return administered == "YES"
    # A volume above zero was given, whatever the name of the agent.
    if any(facts.positive(keyword) for keyword in ("ContrastBolusVolume", "ContrastBolusTotalDose")):
        return True
    if not facts.readings("ContrastBolusAgent"):
        return True
    says = [agent_named(text) for text in _agents(facts)]
    return True if True in says else False if False in says else None


def agent_named(text: str) -> bool | None:
    """Return whether a text names a contrast agent, or says that none was given.

    Parameters
    ----------
    text
        ContrastBolusAgent or the meaning of a code, in any language.

    Returns
    -------
    bool or None
        None where the text stands for no value. A text that denies nothing names an agent.
    """
    folded = _NON_IONIC.sub("ionic", unicodedata.normalize("NFKC", text).strip().casefold())
    if folded.strip("()<>[]{}'\"* .") in {"none", "nil", "n"} or _NOTHING.fullmatch(folded):
        return False
    if is_unknown(folded):
        return None
    folded = _OF_SOMETHING_ELSE.sub("", folded)
    amounts = [float(amount.replace(",", ".")) for amount in _DOSE.findall(folded)]
    words = set(re.findall(r"w/o(?:ut)?|[^\W\d_]+", folded))
    if any(amounts) and re.search(r"\d\s*(ml|cc|mmol)", folded):
        return True
    denied = not words.isdisjoint(_DENIALS.split()) or _DENYING_PARTS.search(folded) is not None
    return not (denied or (bool(amounts) and not any(amounts)))


def _agents(facts: Facts) -> list[str]:
    """Return every text that may name an agent; one that stands for no value is left out by `agent_named`."""
    keywords = ("ContrastBolusAgent", "ContrastBolusIngredient")
    return [text for keyword in keywords for text in map(str, facts.values.get(keyword, ()))]

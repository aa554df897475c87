"""BodyPartExamined: whether its terms name the head, or only something else."""

from __future__ import annotations

import re
import unicodedata

_HEAD = re.compile(
    r"(?<!FORE)(?<!BULK)HEAD|BRAIN|SKULL|CRANI|ENCEPHAL|ENCEFAL|NEURO|CEREB|HIPPOCAMP|HIPOCAMP|KOPF|SCHADEL|SCHAEDEL|HIRN"
    r"|TETE|(?<![A-Z])CRANE|CRANEO|CABEZA|CABECA|CERVEAU|CERVEL|TESTA|HOOFD|HERSEN|(?<![A-Z])HJARNA|MOZG|(?<![A-Z])GLOWA"
    r"|BEYIN|МОЗГ|ГОЛОВ|头|頭|脑|脳|颅"
)
"""The head and what is in it, in the languages of ``words.toml``, without accents."""
_HEAD_OF_A_BONE = re.compile(r"HUMER|FEMUR|FEMOR|FIBUL|RADIAL|RADIUS|METATARS|METACARP|CAPUT|PANCREA")
_PARTS = """
    ABDOMEN ABD ABDO ABDOMINAL ADRENAL ANKLE ANTEBRACHIUM AORTA ARM AXILLA BACK BICEP BILEDUCT BLADDER BREAST BRONCHUS
    BUTTOCK CALCANEUS CALF CARDIAC CAROTID CHEST CLAVICLE COCCYX COLON CORNEA EAR ELBOW ENDOMETRIUM ESOPHAGUS EXTREMITY
    EYE FEMUR FIBULA FINGER FOOT FOREARM FOREFOOT GALLBLADDER GENITAL GLUTEUS GROIN HAND HEART HIP HUMERUS IAC ILEUM
    ILIUM INTESTINE ISCHIUM JAW KIDNEY KNEE LARYNX LEG LIVER LUMBAR LUMBOSACRAL LUNG MANDIBLE MAXILLA MEDIASTINUM
    METACARPUS METATARSUS MYELUM NECK NOSE ORBIT OVARY PANCREAS PAROTID PATELLA PELVIS PENIS PHARYNX PLEXUS PROSTATE
    RADIUS RECTUM RETROPERITONEUM RIB SACRUM SCAPULA SCROTUM SELLA SHOULDER SIJOINT SINUS SPINE SPLEEN STERNUM STOMACH
    TESTIS THIGH THORACIC THORAX THUMB THYMUS THYROID TIBIA TMJ TMJOINT TOE TONGUE TRACHEA ULNA URETER URETHRA UTERUS
    VAGINA VERTEBRA VERTEBRAE WRIST ZYGOMA PITUITARY FACE
    CERVICAL COLUMNA COLONNE WIRBELSAULE HWS BWS LWS HALS SCHULTER KNIE HUFTE BECKEN FUSS BRUST HERZ RACHIS COU GENOU
    EPAULE HANCHE BASSIN CUELLO RODILLA HOMBRO CADERA PECHO
"""
_QUALIFIED = (
    rf"(?:[CTLS]|CT|TL|LS|UP|UPR|LOW|LOWER|UPPER|LOWR|L|R|LT|RT|LEFT|RIGHT)?(?:{'|'.join(_PARTS.split())})(?:E?S)?"
)
_TERM = re.compile(rf"(?:{_QUALIFIED})+")
"""Terms of PS3.16 Table L-1 and what vendors and operators write for them; several may be written as one word, and a
letter before SPINE stands for its part."""


def names_head(body_part: str) -> bool:
    """Return whether a body part is or includes the head.

    Parameters
    ----------
    body_part
        BodyPartExamined, in any spelling.
    """
    folded = _folded(body_part)
    return bool(_HEAD.search(folded)) and not _HEAD_OF_A_BONE.search(folded)


def names_another_part(body_part: str) -> bool:
    """Return whether a body part is known, and none that includes the head.

    Parameters
    ----------
    body_part
        BodyPartExamined, in any spelling; an unknown term says nothing.
    """
    if names_head(body_part):
        return False
    return any(_TERM.fullmatch(term) for term in re.split(r"[\W\d_]+", _folded(body_part)))


def _folded(body_part: str) -> str:
    """Return a text in capitals without accents."""
    letters = unicodedata.normalize("NFKD", body_part.upper())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))

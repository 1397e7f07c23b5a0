"""IPTC's mark of how an image was made, in words and as XMP. Knows no framework."""

from __future__ import annotations

from typing import Final

#: Made by a model.
BY_MODEL: Final = "trainedAlgorithmicMedia"
#: Put together, in part from what a model made.
PARTLY_BY_MODEL: Final = "compositeWithTrainedAlgorithmicMedia"
#: Made by a program from drawings of people, without a model.
BY_PROGRAM: Final = "digitalCreation"
#: The provider that uses no model.
_WITHOUT_MODEL: Final = "clipart"


def digital_source(provider: str, *, is_composite: bool = False) -> str:
    """Return IPTC's term for the images of a provider. ``is_composite`` if only a part of the image is the
    provider's."""
    if is_composite:
        return PARTLY_BY_MODEL
    return BY_PROGRAM if provider == _WITHOUT_MODEL else BY_MODEL


def xmp(source: str) -> str:
    """Return an XMP packet with this digital source type."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{source}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )

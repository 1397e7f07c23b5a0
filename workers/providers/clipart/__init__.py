"""The built-in image provider, for when no vendor's key is set: scenes composed of OpenMoji's drawings.

:mod:`.words` reads the prompt, :mod:`.catalogue` knows the drawings, :mod:`.scene` composes, :mod:`.draw` paints.
"""

from workers.providers.clipart.provider import ClipartProvider

__all__ = ["ClipartProvider"]
